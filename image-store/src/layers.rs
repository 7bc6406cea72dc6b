//! Records of layers and the trees they name.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use dhow_image::{ChainId, Descriptor, DiffId};
use dhow_layer::{PackOptions, XattrFlavour};
use serde::{Deserialize, Serialize};

use crate::error::{damaged, io};
use crate::store::{random_name, read};
use crate::{Store, StoreError};

/// What is known of an unpacked layer. Written once, when its tree is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The name of its directory in trees/.
    pub(crate) tree: String,
    /// The overlay's attributes in it: `trusted` or `user`.
    pub(crate) flavour: String,
    /// The length of its tar stream.
    pub(crate) tar_size: u64,
    /// How many entries the tar has.
    pub(crate) entries: u64,
    /// The tar form in which the tree packs to the DiffId's bytes; none where its tar was another program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tar_form: Option<u32>,
    /// Whether directories that its tar leaves out were made for where it stands, so that it fits nowhere else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leaves_out: bool,
}

/// The form that this program packs.
pub(crate) const TAR_FORM: u32 = 1;

/// The file of a layer's record: of one that stands for itself, or of one whose left-out directories follow `parent`.
pub(crate) fn record_name(diff_id: &DiffId, parent: Option<&ChainId>) -> String {
    let own = format!("{}-{}", diff_id.0.algorithm().name(), diff_id.0.hex());
    match parent {
        None => format!("{own}.json"),
        Some(parent) => format!("{own}@{}.json", parent.0.hex()),
    }
}

/// The DiffId in the name of a record's file.
pub(crate) fn diff_id_of(name: &str) -> Option<DiffId> {
    let name = name.strip_suffix(".json")?;
    let own = name.split('@').next()?;
    own.replacen('-', ":", 1).parse().ok()
}

impl Store {
    /// The layer on top of `parent`, where its tree is there.
    pub(crate) fn layer(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
    ) -> Result<Option<LayerRecord>, StoreError> {
        // One that leaves directories out is another tree at the bottom than on top of something.
        match self.read_record(&record_name(diff_id, None))? {
            Some(record) if parent.is_none() || !record.leaves_out => Ok(Some(record)),
            _ if parent.is_some() => self.read_record(&record_name(diff_id, parent)),
            _ => Ok(None),
        }
    }

    /// The records of a whole image's layers, lowest first; the first that is missing instead.
    pub(crate) fn layers(
        &self,
        diff_ids: &[DiffId],
    ) -> Result<Result<Vec<LayerRecord>, usize>, StoreError> {
        let mut records = Vec::with_capacity(diff_ids.len());
        let mut parent: Option<ChainId> = None;
        for (index, diff_id) in diff_ids.iter().enumerate() {
            match self.layer(diff_id, parent.as_ref())? {
                Some(record) => records.push(record),
                None => return Ok(Err(index)),
            }
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        Ok(Ok(records))
    }

    /// The record in this file, where it can be used: a tree that somebody removed counts as missing, and is made again.
    pub(crate) fn read_record(&self, name: &str) -> Result<Option<LayerRecord>, StoreError> {
        let record = self.written_record(name)?;
        Ok(record.filter(|record| {
            let tree = self.tree_path(&record.tree);
            rustix::fs::access(tree, rustix::fs::Access::EXISTS).is_ok()
        }))
    }

    /// The record in this file, whether its tree is there or not. One that cannot be read names no tree, so that it counts as missing, and
    /// is written again with the tree; [`Store::check`] tells of it.
    pub(crate) fn written_record(&self, name: &str) -> Result<Option<LayerRecord>, StoreError> {
        let record = self.parsed_record(name)?.and_then(Result::ok);
        // A tree of the other flavour shows deleted files again.
        Ok(record.filter(|record| record.flavour == self.flavour().name()))
    }

    /// What the file of a record says, or why it cannot be read; none where there is no such file.
    pub(crate) fn parsed_record(
        &self,
        name: &str,
    ) -> Result<Option<Result<LayerRecord, serde_json::Error>>, StoreError> {
        let bytes = read(&self.path("layers").join(name))?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)))
    }

    /// Makes the record, which makes the tree exist. Its content must be synced.
    pub(crate) fn write_record(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
        record: &LayerRecord,
    ) -> Result<(), StoreError> {
        let path = self.path("layers").join(record_name(diff_id, parent));
        let bytes = serde_json::to_vec(record).map_err(|error| damaged("a record", error))?;
        self.write(&path, &bytes, true)
    }

    pub(crate) fn tree_path(&self, tree: &str) -> PathBuf {
        self.path("trees").join(tree).join("fs")
    }

    pub(crate) fn open_tree(&self, tree: &str) -> Result<OwnedFd, StoreError> {
        let path = self.tree_path(tree);
        Ok(File::open(&path)
            .map_err(io("opening the tree", &path))?
            .into())
    }

    /// A new tree's wrapper and its empty `fs`; the name is told to `announce` before anything is made.
    pub(crate) fn make_tree(
        &self,
        mut announce: impl FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<String, StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        loop {
            let name = random_name(6)?;
            announce(&name)?;
            let path = self.path("trees").join(&name);
            match builder.create(&path) {
                Ok(()) => {
                    let fs = path.join("fs");
                    fs::DirBuilder::new()
                        .mode(0o755)
                        .create(&fs)
                        .map_err(io("making the tree", &fs))?;
                    return Ok(name);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io("making the tree", path)(error)),
            }
        }
    }

    /// Removes a tree that no record names.
    pub(crate) fn remove_tree(&self, tree: &str) -> Result<(), StoreError> {
        let path = self.path("trees");
        let trees = File::open(&path).map_err(io("opening", &path))?;
        dhow_layer::remove_tree(trees.as_fd(), tree.as_bytes())
            .map_err(io("removing", path.join(tree)))
    }

    /// How trees of this store are packed as they are.
    pub(crate) fn packing(&self) -> PackOptions<'static> {
        PackOptions {
            flavour: self.flavour(),
            normalise: false,
            lowers: &[],
        }
    }

    /// The compressed blob that is known for a layer.
    pub(crate) fn compressed(&self, diff_id: &DiffId) -> Result<Option<Descriptor>, StoreError> {
        let path = self.compressed_path(diff_id);
        let bytes = read(&path)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Notes the compressed blob of a layer. A hint: made again where it is lost.
    pub(crate) fn note_compressed(
        &self,
        diff_id: &DiffId,
        blob: &Descriptor,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(blob).map_err(|error| damaged("a descriptor", error))?;
        self.write(&self.compressed_path(diff_id), &bytes, false)
    }

    fn compressed_path(&self, diff_id: &DiffId) -> PathBuf {
        let name = format!("{}-{}", diff_id.0.algorithm().name(), diff_id.0.hex());
        self.path("compressed").join(name)
    }

    /// A record of a tree of this store.
    pub(crate) fn record(&self, tree: &str, tar_size: u64, entries: u64, own: bool) -> LayerRecord {
        let flavour: XattrFlavour = self.flavour();
        LayerRecord {
            tree: tree.to_owned(),
            flavour: flavour.name().to_owned(),
            tar_size,
            entries,
            tar_form: own.then_some(TAR_FORM),
            leaves_out: false,
        }
    }
}
