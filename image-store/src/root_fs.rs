//! The root file systems of containers.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use dhow_image::Digest;
use serde::{Deserialize, Serialize};

use crate::blobs::digest_of;
use crate::error::{damaged, io};
use crate::id_mapped::{MappedIds, attach, copy_of};
use crate::layers::LayerRecord;
use crate::mount::{Overlay, check_depth, fresh_directory};
use crate::store::{names, read, remove_file, sync_directory};
use crate::{Image, Store, StoreError};

/// A container's root file system: an image's layers and a writable directory on top.
#[derive(Clone, Debug)]
pub struct RootFs {
    store: Store,
    owner: String,
    upper: PathBuf,
    uses: Uses,
}

/// What a container keeps from collection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Uses {
    /// The image's id.
    pub(crate) image: Digest,
    pub(crate) manifest: Digest,
    /// Its trees, lowest first.
    pub(crate) trees: Vec<String>,
    /// Nothing of it has to outlive a crash of the machine.
    #[serde(default)]
    pub(crate) temporary: bool,
}

impl Store {
    /// Makes the root file system of the container `owner`; not yet mounted. Durable when it returns.
    ///
    /// # Errors
    /// When a layer is missing, or the owner has one already.
    pub fn root_fs(&self, image: &Image, owner: &str) -> Result<RootFs, StoreError> {
        self.make_root_fs(image, owner, false)
    }

    /// The same for a container that is removed when it ends (`--rm`): nothing is made durable, and it is mounted `volatile`.
    ///
    /// # Errors
    /// As [`Store::root_fs`].
    pub fn temporary_root_fs(&self, image: &Image, owner: &str) -> Result<RootFs, StoreError> {
        self.make_root_fs(image, owner, true)
    }

    /// The root file system that was made for `owner`.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn find_root_fs(&self, owner: &str) -> Result<Option<RootFs>, StoreError> {
        check_owner(owner)?;
        let Some(uses) = self.uses(owner)? else {
            return Ok(None);
        };
        Ok(Some(RootFs {
            store: self.clone(),
            owner: owner.to_owned(),
            upper: self.container(owner).join("upper"),
            uses,
        }))
    }

    /// Removes it, which must not be mounted any more; nothing happens where there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_root_fs(&self, owner: &str) -> Result<(), StoreError> {
        check_owner(owner)?;
        let path = self.container(owner);
        let directory = match File::open(&path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io("opening", path)(error)),
        };
        for part in ["upper", "work"] {
            dhow_layer::remove_tree(directory.as_fd(), part.as_bytes())
                .map_err(io("removing", path.join(part)))?;
        }
        remove_file(&path.join("uses"))?;
        // Others may keep files of theirs there.
        let _ = fs::remove_dir(&path);
        Ok(())
    }

    fn make_root_fs(
        &self,
        image: &Image,
        owner: &str,
        temporary: bool,
    ) -> Result<RootFs, StoreError> {
        check_owner(owner)?;
        check_depth(image.diff_ids.len())?;
        let container = self.container(owner);
        match fs::DirBuilder::new().mode(0o700).create(&container) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io("making", &container)(error));
            }
            _ => {}
        }
        let upper = container.join("upper");
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&upper)
            .map_err(io("making the root file system", &upper))?;
        let made = self.use_image(image, owner, temporary);
        let made = made.and_then(|uses| {
            if let Some(topmost) = uses.trees.last() {
                let top = self.open_tree(topmost)?;
                let own = File::open(&upper).map_err(io("opening", &upper))?;
                dhow_layer::inherit_root(own.as_fd(), &[top.as_fd()])
                    .map_err(io("setting up", &upper))?;
            }
            if !temporary {
                sync_directory(&container)?;
                sync_directory(&self.path("containers"))?;
            }
            Ok(uses)
        });
        match made {
            Ok(uses) => Ok(RootFs {
                store: self.clone(),
                owner: owner.to_owned(),
                upper,
                uses,
            }),
            Err(error) => {
                let _ = self.remove_root_fs(owner);
                Err(error)
            }
        }
    }

    /// Writes what the container uses, while all of it is there.
    fn use_image(&self, image: &Image, owner: &str, temporary: bool) -> Result<Uses, StoreError> {
        let write = |records: Vec<LayerRecord>| {
            let uses = Uses {
                image: image.id.clone(),
                manifest: digest_of(&image.descriptor)?,
                trees: records.into_iter().map(|record| record.tree).collect(),
                temporary,
            };
            let bytes = serde_json::to_vec(&uses).map_err(|error| damaged("a record", error))?;
            let path = self.container(owner).join("uses");
            self.write(&path, &bytes, !temporary)?;
            Ok(uses)
        };
        let lock = self.lock_shared()?;
        if let Ok(records) = self.layers(&image.diff_ids)? {
            return write(records);
        }
        drop(lock);
        let lease = self.lease()?;
        lease.hold(image)?;
        let records = lease.ensure_layers(&image.diff_ids, image.manifest.layers())?;
        write(records)
    }

    /// The container that uses the image with this id, if any.
    pub(crate) fn user_of(&self, id: &Digest) -> Result<Option<String>, StoreError> {
        for owner in names(&self.path("containers"))? {
            if self.uses(&owner)?.is_some_and(|uses| uses.image == *id) {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    pub(crate) fn uses(&self, owner: &str) -> Result<Option<Uses>, StoreError> {
        let path = self.container(owner).join("uses");
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(path.display(), error))
    }

    fn container(&self, owner: &str) -> PathBuf {
        self.path("containers").join(owner)
    }
}

impl RootFs {
    /// The container.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The directory that takes what the container writes.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// The id of the image that it was made from.
    pub fn image(&self) -> &Digest {
        &self.uses.image
    }

    /// Mounts it on the directory `target`, in the calling thread's mount namespace
    /// (see [`enter_private_mounts`](crate::enter_private_mounts)). With `ids`, files have in that user namespace the owners that they have
    /// in the store, and the other way.
    ///
    /// # Errors
    /// When the kernel refuses; with `ids`, when it cannot map the owners of files on the store's file system.
    pub fn mount(&self, target: &Path, ids: Option<&MappedIds>) -> Result<(), StoreError> {
        let container = self.store.container(&self.owner);
        if self.uses.trees.is_empty() {
            if let Some(ids) = ids {
                return attach(copy_of(&self.upper, ids)?.as_fd(), target);
            }
            return rustix::mount::mount_bind(&self.upper, target)
                .map_err(io("mounting on", target));
        }
        fresh_directory(&container.join("work"))?;
        let target = std::path::absolute(target).map_err(io("finding", target))?;
        self.store.mount_overlay(&Overlay {
            lowers: self.uses.trees.iter().rev().map(String::as_str).collect(),
            upper: format!("../containers/{}/upper", self.owner),
            work: format!("../containers/{}/work", self.owner),
            target: &target,
            volatile: self.uses.temporary,
            ids,
        })
    }
}

/// A container's name becomes part of a path and of mount options.
fn check_owner(owner: &str) -> Result<(), StoreError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if owner.is_empty() || owner.starts_with('.') || !owner.bytes().all(fits) {
        return Err(StoreError::Invalid(format!(
            "{owner:?} is no name of a container"
        )));
    }
    Ok(())
}
