//! Images out of, and into, Docker's own form of archive: `manifest.json` names for each image a config and its layers' tars,
//! all of them files of any name in one tar (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format").

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::FileExt as _;

use dhow_image::{
    ChainId, Compression, Descriptor, DiffId, Digest, Hasher, ImageConfiguration, Progress, Want,
};
use dhow_layer::{Archive, ArchiveKind};
use serde::Deserialize;

use crate::blobs::digest_of;
use crate::error::{damaged, io as io_error};
use crate::lease::descriptor;
use crate::load::{Loaded, no_archive, reading, small, take};
use crate::save::{append, append_whole, list, writing};
use crate::{Image, Lease, Store, StoreError};

/// How many links in a row lead from a name to a file.
const LINKS: usize = 8;

/// More files than this, or names longer than this together, no archive of images has.
const MEMBERS: usize = 100_000;
const NAMES: usize = 32 << 20;

/// An image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What a name in the archive stands for.
enum Member {
    /// So many bytes of the archive from there on.
    File { offset: u64, size: u64 },
    /// Another name.
    Link(String),
}

/// The files of an archive that can be read at any place.
pub(crate) struct Members<'a> {
    archive: &'a File,
    named: HashMap<String, Member>,
}

/// A file of an archive.
pub(crate) struct Section<'a> {
    archive: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        let count = self.archive.read_at(&mut out[..most], self.offset)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ends in the middle of a file",
            ));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl<'a> Members<'a> {
    /// Looks through the archive, from where `archive` stands.
    pub(crate) fn read(mut archive: &'a File) -> Result<Self, StoreError> {
        let from = io::Seek::stream_position(&mut archive).map_err(reading)?;
        let mut named = HashMap::new();
        let mut known = 0;
        let mut tar = Archive::seeking(archive);
        while let Some(entry) = tar.next_entry().map_err(no_archive)? {
            let name = clean(&String::from_utf8_lossy(&entry.name));
            let member = match entry.kind {
                ArchiveKind::File(size) => Member::File {
                    offset: from + entry.offset,
                    size,
                },
                ArchiveKind::HardLink(target) => {
                    Member::Link(clean(&String::from_utf8_lossy(&target)))
                }
                ArchiveKind::Symlink(target) => {
                    let target = String::from_utf8_lossy(&target);
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    Member::Link(clean(&format!("{directory}/{target}")))
                }
                ArchiveKind::Other => continue,
            };
            known += name.len();
            if let Member::Link(target) = &member {
                known += target.len();
            }
            if named.len() > MEMBERS || known > NAMES {
                return Err(StoreError::Invalid(
                    "the archive has more files than any archive of images".to_owned(),
                ));
            }
            named.insert(name, member);
        }
        Ok(Self { archive, named })
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// The content of the file of this name.
    pub(crate) fn open(&self, name: &str) -> Result<Section<'a>, StoreError> {
        let mut next = clean(name);
        for _ in 0..LINKS {
            match self.named.get(&next) {
                Some(Member::File { offset, size }) => {
                    return Ok(Section {
                        archive: self.archive,
                        offset: *offset,
                        left: *size,
                    });
                }
                Some(Member::Link(target)) => next.clone_from(target),
                None => break,
            }
        }
        Err(damaged(name, "the archive has no such file"))
    }

    /// The content of a small file.
    pub(crate) fn document(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let mut section = self.open(name)?;
        let size = section.left;
        small(&mut section, size, name)
    }
}

/// A name without `.`, `..` and doubled slashes; it is only ever looked up among the archive's own.
fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Store {
    /// Takes the images that the archive's `manifest.json` lists.
    pub(crate) fn load_docker(
        &self,
        members: &Members<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, StoreError> {
        if !members.has("manifest.json") {
            return Err(StoreError::Invalid(
                "this is no archive of images: it has neither index.json nor manifest.json"
                    .to_owned(),
            ));
        }
        let listed: Vec<Listed> = serde_json::from_slice(&members.document("manifest.json")?)
            .map_err(|error| damaged("manifest.json", error))?;
        let lease = self.taking_lease()?;
        let mut loaded = Vec::new();
        for listed in &listed {
            let manifest = lease.take_listed(members, listed, progress)?;
            let image = Image::read(self, &manifest)?;
            lease.ensure_layers(&image.diff_ids, image.manifest.layers())?;
            let names = listed.repo_tags.iter().flatten();
            let names = names
                .map(|name| name.parse().map_err(|error| damaged(name, error)))
                .collect::<Result<Vec<_>, _>>()?;
            if names.is_empty() {
                self.keep(&manifest)?;
                loaded.push((None, image));
                continue;
            }
            for name in names {
                self.tag(&name, &manifest)?;
                loaded.push((Some(name), image.clone()));
            }
        }
        Ok(loaded)
    }
}

impl Lease {
    /// Takes one image of the archive; its manifest is made here, since such an archive has none.
    fn take_listed(
        &self,
        members: &Members<'_>,
        listed: &Listed,
        progress: &dyn Progress,
    ) -> Result<Descriptor, StoreError> {
        let bytes = members.document(&listed.config)?;
        let config: ImageConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&listed.config, error))?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != listed.layers.len() {
            return Err(damaged(
                &listed.config,
                "it and manifest.json disagree on the image's layers",
            ));
        }
        let mut parent: Option<ChainId> = None;
        let mut layers = Vec::new();
        for (name, text) in listed.layers.iter().zip(diff_ids) {
            let diff_id: DiffId = text.parse().map_err(|error| damaged(text, error))?;
            let chain = ChainId::above(parent.as_ref(), &diff_id);
            let blob = members.layer(name, &diff_id)?;
            let want = Want::Layer { diff_id, parent };
            take(self, &blob, &want, &mut members.open(name)?, progress)?;
            layers.push(blob);
            parent = Some(chain);
        }
        self.put_image(&bytes, layers)
    }
}

impl Store {
    /// Writes images in Docker's form: what is in them is named by its digest, and layers are not compressed.
    pub(crate) fn save_docker(
        &self,
        images: &[Image],
        out: impl Write,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let lease = self.lease()?;
        let mut tar = tar::Builder::new(out);
        let mut written = HashSet::new();
        for image in images {
            lease.hold(image)?;
            let records = lease.ensure_layers(&image.diff_ids, image.manifest.layers())?;
            let layers = image.diff_ids.iter().zip(image.manifest.layers());
            for ((diff_id, layer), record) in layers.zip(&records) {
                if written.insert(diff_id.0.clone()) {
                    let body = self.uncompressed(diff_id, layer, &record.tree)?;
                    let name = layer_name(diff_id);
                    append_whole(&mut tar, &name, &diff_id.0, record.tar_size, body, progress)?;
                }
            }
            if written.insert(image.id.clone()) {
                append(
                    &mut tar,
                    &config_name(&image.id),
                    &self.read_blob(&image.id)?,
                )?;
            }
        }
        let layers = |image: &Image| Ok(image.diff_ids.iter().map(layer_name).collect());
        append(
            &mut tar,
            "manifest.json",
            &list(images, config_name, layers)?,
        )?;
        let mut out = tar.into_inner().map_err(writing)?;
        out.flush().map_err(writing)
    }

    /// A layer's tar: its blob's, inflated, or the tar form of its tree.
    fn uncompressed(
        &self,
        diff_id: &DiffId,
        layer: &Descriptor,
        tree: &str,
    ) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        let digest = digest_of(layer)?;
        if !self.has_blob(&digest) {
            return Ok(self.packed(diff_id, tree)?.reader);
        }
        let path = self.blob_path(&digest);
        let mut file = File::open(&path).map_err(io_error("opening", &path))?;
        let mut start = Vec::new();
        let read = (&file).take(4).read_to_end(&mut start);
        read.and_then(|_| file.rewind())
            .map_err(io_error("reading", &path))?;
        Ok(match Compression::of_bytes(&start) {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Compression::Zstd => {
                Box::new(zstd::Decoder::new(file).map_err(io_error("reading", &path))?)
            }
        })
    }
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.0.hex())
}

fn config_name(id: &Digest) -> String {
    format!("{}.json", id.hex())
}

impl Members<'_> {
    /// The layer as a blob. One that is not compressed is its own DiffId; of a compressed one the digest has to be found.
    pub(crate) fn layer(&self, name: &str, diff_id: &DiffId) -> Result<Descriptor, StoreError> {
        let mut start = Vec::new();
        let section = self.open(name)?;
        let size = section.left;
        section.take(4).read_to_end(&mut start).map_err(reading)?;
        let compression = Compression::of_bytes(&start);
        let digest = match compression {
            Compression::None => diff_id.0.clone(),
            _ => self.digest(name)?,
        };
        Ok(descriptor(compression.layer_media_type(), size, &digest))
    }

    fn digest(&self, name: &str) -> Result<Digest, StoreError> {
        let mut section = self.open(name)?;
        let mut hasher = Hasher::new(dhow_image::Algorithm::Sha256);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match section.read(&mut buffer).map_err(reading)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}
