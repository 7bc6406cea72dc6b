//! Whether everything in the store is what its name says.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::fd::AsFd;

use dhow_image::{DiffId, Digest, Hasher};
use dhow_layer::UnpackOptions;

use crate::blobs::digest_of;
use crate::error::io;
use crate::layers::{LayerRecord, diff_id_of};
use crate::store::{names, remove_file};
use crate::unpacking::{Inflating, unpack_stream, unpacking};
use crate::whole::{Owners, pull};
use crate::{Lease, Store, StoreError};

/// Something in the store that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The blob or layer.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
    /// It was taken out of the store, and will be fetched or made again when it is needed.
    pub repaired: bool,
    /// What is to be done to have it again, where that does not come about by itself.
    pub remedy: Option<String>,
}

impl Store {
    /// Reads every blob and every tree, and tells which are not what their names say, and what the images lack. With `repair`, a bad
    /// blob is removed, and a bad tree loses its record, where a good blob is there to make it from again or can be fetched. A
    /// container that uses the tree keeps it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, repair: bool) -> Result<Vec<Flaw>, StoreError> {
        let lease = self.lease()?;
        let mut flaws = Vec::new();
        self.check_names(&mut flaws)?;
        let owners = self.check_images(&mut flaws)?;
        self.check_blobs(repair, &owners, &mut flaws)?;
        self.check_indexes(&mut flaws)?;
        let directory = self.path("layers");
        for name in names(&directory)? {
            let Some(diff_id) = diff_id_of(&name) else {
                continue;
            };
            let record = match self.parsed_record(&name)? {
                Some(Ok(record)) if record.flavour == self.flavour().name() => record,
                Some(Err(error)) => {
                    let repaired = repair && self.can_be_made(&diff_id)?;
                    if repaired {
                        remove_file(&directory.join(&name))?;
                    }
                    flaws.push(Flaw {
                        what: format!("the record of layer {}", diff_id.0.short()),
                        reason: error.to_string(),
                        repaired,
                        remedy: owned(&owners, &diff_id.0),
                    });
                    continue;
                }
                _ => continue,
            };
            lease.hold_tree(&record.tree)?;
            let error = match self.check_tree(&lease, &diff_id, &record) {
                Ok(()) => continue,
                // No room to unpack it again says nothing about the tree.
                Err(error) if error.is_of_writing() => return Err(error),
                Err(error) => error,
            };
            let mut reason = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                reason = format!("{reason}: {source}");
            }
            let has_blob = self.has_good_blob(&diff_id)?;
            let is_gone = !self.tree_path(&record.tree).exists();
            let repaired = repair && (has_blob || is_gone || self.can_be_fetched(&diff_id)?);
            if repaired {
                remove_file(&directory.join(&name))?;
            }
            flaws.push(Flaw {
                what: format!("the tree of layer {}", diff_id.0.short()),
                reason,
                repaired,
                remedy: owned(&owners, &diff_id.0).filter(|_| !has_blob),
            });
        }
        Ok(flaws)
    }

    /// Whether the layer's tree can be made, of its blob or of what a registry is known to have.
    pub(crate) fn can_be_made(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        Ok(self.has_good_blob(diff_id)? || self.can_be_fetched(diff_id)?)
    }

    /// Adds to `flaws` the names whose files cannot be read. They stay, since what they keep may be nowhere else.
    fn check_names(&self, flaws: &mut Vec<Flaw>) -> Result<(), StoreError> {
        for (path, error) in self.damaged_tags()? {
            let name = self.name_of(&path);
            flaws.push(Flaw {
                what: format!("the name {name}"),
                reason: error.to_string(),
                repaired: false,
                remedy: Some(format!("{}, `dhow rmi {name}` removes it", pull(&name))),
            });
        }
        Ok(())
    }

    /// Whether a registry is known to have the layer's blob.
    fn can_be_fetched(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        match self.compressed(diff_id)? {
            Some(blob) => Ok(self.locations().are_known(&digest_of(&blob)?)),
            None => Ok(false),
        }
    }

    fn check_blobs(
        &self,
        repair: bool,
        owners: &Owners,
        flaws: &mut Vec<Flaw>,
    ) -> Result<(), StoreError> {
        for algorithm in ["sha256", "sha512"] {
            let directory = self.path("blobs").join(algorithm);
            for hex in names(&directory)? {
                let path = directory.join(&hex);
                let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else {
                    continue;
                };
                let Some(found) = self.digest_of_file(&digest)? else {
                    continue;
                };
                if found == digest {
                    continue;
                }
                if repair {
                    remove_file(&path)?;
                }
                flaws.push(Flaw {
                    what: format!("blob {digest}"),
                    reason: format!("its bytes have the digest {found}"),
                    repaired: repair,
                    remedy: owned(owners, &digest),
                });
            }
        }
        Ok(())
    }

    /// The digest of a blob's bytes; none where it is not there (any more).
    pub(crate) fn digest_of_file(&self, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        let path = self.blob_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("opening", path)(error)),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer).map_err(io("reading", &path))? {
                0 => return Ok(Some(hasher.finish())),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// A tree of our own form packs to its DiffId; another is compared with what its blob unpacks to.
    fn check_tree(
        &self,
        lease: &Lease,
        diff_id: &DiffId,
        record: &LayerRecord,
    ) -> Result<(), StoreError> {
        let found = self.packed_digest(diff_id, &record.tree)?;
        let expected = match record.tar_form {
            Some(_) => diff_id.clone(),
            None => {
                if !self.has_good_blob(diff_id)? {
                    return Ok(());
                }
                self.packed_again(lease, diff_id, record)?
            }
        };
        if found == expected {
            return Ok(());
        }
        Err(StoreError::Digest {
            what: "its content".to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }

    pub(crate) fn packed_digest(&self, diff_id: &DiffId, tree: &str) -> Result<DiffId, StoreError> {
        let tree = self.open_tree(tree)?;
        let packed = dhow_layer::pack(tree.as_fd(), io::sink(), &self.packing());
        let packed = packed.map_err(|source| StoreError::Pack {
            layer: diff_id.0.short().to_owned(),
            source,
        })?;
        Ok(packed.diff_id)
    }

    /// What the layer's blob packs to once it is unpacked.
    fn packed_again(
        &self,
        lease: &Lease,
        diff_id: &DiffId,
        record: &LayerRecord,
    ) -> Result<DiffId, StoreError> {
        let Some(blob) = self.compressed(diff_id)? else {
            return self.packed_digest(diff_id, &record.tree);
        };
        let path = self.blob_path(&digest_of(&blob)?);
        let file = File::open(&path).map_err(io("opening", &path))?;
        let name = lease.new_tree()?;
        let fresh = self.open_tree(&name)?;
        let options = UnpackOptions {
            flavour: self.flavour(),
        };
        let again = unpack_stream(
            &fresh,
            options,
            Inflating::Beside,
            BufReader::new(file),
            false,
        )
        .map_err(unpacking(diff_id))
        .and_then(|(unpacked, _)| {
            // What the tar leaves out it cannot say; there the tree is right.
            let tree = self.open_tree(&record.tree)?;
            dhow_layer::inherit(fresh.as_fd(), &unpacked.implied, &[tree.as_fd()])
                .map_err(unpacking(diff_id))?;
            self.packed_digest(diff_id, &name)
        });
        self.remove_tree(&name)?;
        again
    }

    fn has_good_blob(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        let Some(blob) = self.compressed(diff_id)? else {
            return Ok(false);
        };
        let digest = digest_of(&blob)?;
        Ok(self.digest_of_file(&digest)? == Some(digest))
    }
}

/// What is to be done for the images to which a damaged part belongs.
fn owned(owners: &Owners, part: &Digest) -> Option<String> {
    let names: Vec<String> = owners.get(part)?.iter().map(|name| pull(name)).collect();
    Some(names.join(", "))
}
