//! Writable trees that become layers where they stand.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use dhow_image::DiffId;
use dhow_layer::PackOptions;

use crate::error::io;
use crate::mount::{Overlay, check_depth, fresh_directory, unmount};
use crate::unpacking::open_trees;
use crate::{Lease, StoreError};

/// A writable tree on top of layers. Dropping it unmounts and discards it.
#[derive(Debug)]
pub struct ActiveSnapshot {
    lease: Lease,
    tree: String,
    /// Topmost first.
    lowers: Vec<String>,
    /// Where it is mounted; with no layers below, the tree itself.
    root: PathBuf,
    mounted: bool,
    committed: bool,
}

/// A snapshot that has become a layer.
#[derive(Clone, Debug)]
pub struct CommittedSnapshot {
    diff_id: DiffId,
    entries: u64,
}

impl Lease {
    /// A fresh writable tree on top of `layers`, lowest first.
    ///
    /// # Errors
    /// When a layer is missing.
    pub fn snapshot(&self, layers: &[DiffId]) -> Result<ActiveSnapshot, StoreError> {
        // With the one that it becomes.
        check_depth(layers.len() + 1)?;
        let records = self.ensure_layers(layers, &[])?;
        let lowers: Vec<String> = records.into_iter().rev().map(|r| r.tree).collect();
        let store = self.store();
        let tree = self.new_tree()?;
        let wrapper = store.path("trees").join(&tree);
        let root = match lowers.first() {
            None => wrapper.join("fs"),
            Some(topmost) => {
                let top = store.open_tree(topmost)?;
                let own = store.open_tree(&tree)?;
                dhow_layer::inherit_root(own.as_fd(), &[top.as_fd()])
                    .map_err(io("setting up the tree", &wrapper))?;
                wrapper.join("root")
            }
        };
        Ok(ActiveSnapshot {
            lease: self.clone(),
            tree,
            lowers,
            root,
            mounted: false,
            committed: false,
        })
    }
}

impl ActiveSnapshot {
    /// Mounts it in the calling thread's mount namespace (see [`enter_private_mounts`](crate::enter_private_mounts)) and
    /// gives the path of its root.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn mount(&mut self) -> Result<&Path, StoreError> {
        if self.lowers.is_empty() || self.mounted {
            return Ok(&self.root);
        }
        let store = self.lease.store();
        fresh_directory(&self.root)?;
        fresh_directory(&store.path("trees").join(&self.tree).join("work"))?;
        store.mount_overlay(&Overlay {
            lowers: self.lowers.iter().map(String::as_str).collect(),
            upper: format!("{}/fs", self.tree),
            work: format!("{}/work", self.tree),
            target: &self.root,
            // Its content is synced as a whole when it becomes a layer.
            volatile: true,
            ids: None,
        })?;
        self.mounted = true;
        Ok(&self.root)
    }

    /// Unmounts it; what was written becomes a layer. It becomes durable beside what is done next under its lease, and is so when an
    /// image of it has been committed ([`Lease::commit_image`]).
    ///
    /// # Errors
    /// When it cannot be unmounted or read.
    pub fn commit(mut self) -> Result<CommittedSnapshot, StoreError> {
        self.unmount()?;
        let store = self.lease.store();
        let lowers = open_trees(store, &self.lowers)?;
        let lowers: Vec<BorrowedFd<'_>> = lowers.borrowed();
        let options = PackOptions {
            flavour: store.flavour(),
            normalise: true,
            lowers: &lowers,
        };
        let tree = store.open_tree(&self.tree)?;
        let packed =
            dhow_layer::pack(tree.as_fd(), std::io::sink(), &options).map_err(|source| {
                StoreError::Pack {
                    layer: "of the snapshot".to_owned(),
                    source,
                }
            })?;
        let entries = packed.entries;
        let diff_id = self.lease.commit_tree_beside(&self.tree, packed)?;
        self.committed = true;
        Ok(CommittedSnapshot { diff_id, entries })
    }

    fn unmount(&mut self) -> Result<(), StoreError> {
        if self.mounted {
            unmount(&self.root)?;
            self.mounted = false;
        }
        if !self.lowers.is_empty() {
            let _ = fs::remove_dir(&self.root);
            let wrapper = self.lease.store().path("trees").join(&self.tree);
            if let Ok(wrapper) = fs::File::open(wrapper) {
                let _ = dhow_layer::remove_tree(wrapper.as_fd(), b"work");
            }
        }
        Ok(())
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        // What is still mounted (a process may have a file open in it) must not be emptied from below; it is collected later.
        if !self.committed && self.unmount().is_ok() {
            let _ = self.lease.store().remove_tree(&self.tree);
        }
    }
}

impl CommittedSnapshot {
    /// The layer.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }

    /// How many entries its tar has; one (the root itself) where nothing was written.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}
