//! A root file system's tar becomes an image of one layer.

use std::io::{BufReader, Read};
use std::os::fd::AsFd;

use dhow_image::{DiffId, ImageConfiguration, Platform};
use dhow_layer::{PackOptions, Packed, UnpackOptions};
use oci_spec::image::{Arch, Config, HistoryBuilder, Os};

use crate::error::damaged;
use crate::unpacking::{Inflating, unpack_stream};
use crate::{Image, Lease, Store, StoreError};

/// What an imported image's config says.
#[derive(Clone, Debug)]
pub struct ImportConfig {
    /// What a container of it runs, and how.
    pub config: Config,
    /// For which platform it is.
    pub platform: Platform,
    /// When it was made, in RFC 3339.
    pub created: Option<String>,
    /// A word on where it came from.
    pub message: Option<String>,
}

impl Store {
    /// Makes an image of one layer from a tar stream, which may be compressed with gzip or zstd. The layer's bytes are those of
    /// the tree in the store's own form, whatever the order and the frills of the tar that it came from.
    ///
    /// # Errors
    /// When it is no tar, or the store cannot take it.
    pub fn import(
        &self,
        lease: &Lease,
        tar: impl Read + Send,
        config: ImportConfig,
    ) -> Result<Image, StoreError> {
        let tree = lease.new_tree()?;
        let diff_id = match self.import_tree(&tree, tar) {
            Ok(packed) => lease.commit_tree(&tree, packed)?,
            Err(error) => {
                let _ = self.remove_tree(&tree);
                return Err(error);
            }
        };
        let mut history = HistoryBuilder::default();
        if let Some(created) = &config.created {
            history = history.created(created.clone());
        }
        if let Some(message) = &config.message {
            history = history.comment(message.clone());
        }
        let history = history
            .build()
            .map_err(|error| damaged("a history", error))?;
        let mut document = ImageConfiguration::default();
        document.set_created(config.created);
        document.set_os(Os::from(config.platform.os.as_str()));
        document.set_architecture(Arch::from(config.platform.architecture.as_str()));
        document.set_variant(config.platform.variant);
        document.set_config(Some(config.config));
        document.set_history(Some(vec![history]));
        lease.commit_image(&document, &[diff_id])
    }

    fn import_tree(&self, name: &str, tar: impl Read + Send) -> Result<Packed, StoreError> {
        let layer = || "of the import".to_owned();
        let unpacking = |source| StoreError::Unpack {
            layer: layer(),
            source,
        };
        let tree = self.open_tree(name)?;
        let options = UnpackOptions {
            flavour: self.flavour(),
        };
        let (unpacked, _) = unpack_stream(
            &tree,
            options,
            Inflating::Beside,
            BufReader::new(tar),
            false,
        )
        .map_err(unpacking)?;
        if unpacked.entries == 0 {
            return Err(StoreError::Invalid(
                "the tar has no entries; is it a root file system's tar?".to_owned(),
            ));
        }
        dhow_layer::inherit(tree.as_fd(), &unpacked.implied, &[]).map_err(unpacking)?;
        let options = PackOptions {
            normalise: true,
            ..self.packing()
        };
        dhow_layer::pack(tree.as_fd(), std::io::sink(), &options).map_err(|source| {
            StoreError::Pack {
                layer: layer(),
                source,
            }
        })
    }
}

impl Lease {
    /// Records a tree of this lease that was packed and normalised; where the layer exists already, the tree goes.
    pub(crate) fn commit_tree(&self, tree: &str, packed: Packed) -> Result<DiffId, StoreError> {
        let store = self.store();
        if self.hold_layer(&packed.diff_id, None)?.is_some() {
            store.remove_tree(tree)?;
            return Ok(packed.diff_id);
        }
        store.sync()?;
        let record = store.record(tree, packed.size, packed.entries, true);
        store.write_record(&packed.diff_id, None, &record)?;
        Ok(packed.diff_id)
    }
}
