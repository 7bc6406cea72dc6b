//! Collection of what nothing refers to any more: mark from the roots, unlink, then delete trees.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use dhow_image::{DiffId, Digest};
use rustix::fs::FlockOperation;

use crate::blobs::digest_of;
use crate::error::{damaged, io};
use crate::layers::{diff_id_of, record_name};
use crate::reach::Walk;
use crate::store::{StoreLock, is_named, names, read, remove_file, sync_directory};
use crate::{Image, Store, StoreError};

/// A part of a blob that nobody has gone on with for so long is given up.
const PART_AGE: Duration = Duration::from_secs(24 * 3600);
/// A temporary file lives for moments; one this old was left by a crash.
const TEMPORARY_AGE: Duration = Duration::from_secs(3600);

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub trees: u64,
    /// Bytes of blobs and of unpacked layers.
    pub bytes: u64,
}

/// What is in use.
#[derive(Default)]
struct Marked {
    blobs: HashSet<Digest>,
    trees: HashSet<String>,
    /// Layers with a record that cannot be read, so that their trees are not known.
    unread: HashSet<DiffId>,
}

impl Store {
    /// Removes all that no reference, container, cache entry or living process uses.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be removed.
    pub fn collect(&self) -> Result<Collected, StoreError> {
        let collection = self.lock_collection()?;
        self.collect_under(collection)
    }

    /// The same, with the lock that is for it.
    pub(crate) fn collect_under(&self, _collection: StoreLock) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let lock = self.lock_exclusive()?;
        let mut marked = Marked {
            unread: self.unread_layers()?,
            ..Marked::default()
        };
        self.mark_leases(&mut marked)?;
        self.mark_documents(self.roots()?, &mut marked)?;
        self.mark_containers(&mut marked)?;
        self.mark_cache(&mut marked)?;
        self.sweep_blobs(&marked, &mut collected)?;
        let recorded = self.sweep_records(&marked, &mut collected)?;
        let mut dead = names(&self.path("trees"))?;
        dead.retain(|tree| !recorded.contains(tree) && !marked.trees.contains(tree));
        remove_empty_below(&self.path("tags"));
        drop(lock);
        for directory in ["blobs/sha256", "blobs/sha512", "layers"] {
            sync_directory(&self.path(directory))?;
        }
        for tree in dead {
            self.remove_tree(&tree)?;
            collected.trees += 1;
        }
        self.sweep_compressed()?;
        self.sweep_parts(PART_AGE)?;
        Ok(collected)
    }

    /// Removes the build cache and images without a reference that no container uses, then collects, and gives up what came of blobs
    /// that nobody is fetching now.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn prune(&self) -> Result<Collected, StoreError> {
        let cache = self.path("cache");
        for name in names(&cache)? {
            remove_file(&cache.join(name))?;
        }
        let collected = self.prune_nameless(|_| true)?;
        self.sweep_parts(Duration::ZERO)?;
        Ok(collected)
    }

    /// Removes images without a reference that no container uses, those of them that `fits` takes, then collects. The build cache stays.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn prune_nameless(&self, fits: impl Fn(&Image) -> bool) -> Result<Collected, StoreError> {
        for (path, tag) in self.tags()? {
            // What cannot be read any more is of no use to anybody.
            if tag.reference.is_none()
                && Image::read(self, &tag.manifest).map_or(true, |image| fits(&image))
            {
                self.remove_tag(&path)?;
            }
        }
        self.collect()
    }

    /// Living processes; the leases of dead ones, whose locks are free, go.
    fn mark_leases(&self, marked: &mut Marked) -> Result<(), StoreError> {
        let directory = self.path("leases");
        for name in names(&directory)? {
            let path = directory.join(name);
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove_file(&path)?;
                continue;
            }
            let lines = read(&path)?.unwrap_or_default();
            for line in String::from_utf8_lossy(&lines).lines() {
                match line.split_once(' ') {
                    Some(("blob", digest)) => marked.blobs.extend(digest.parse::<Digest>().ok()),
                    Some(("tree", tree)) => {
                        marked.trees.insert(tree.to_owned());
                    }
                    _ => {}
                }
            }
        }
        // An image that is being made is kept through its manifest, once that is written.
        let held = marked.blobs.iter().cloned().collect();
        self.mark_documents(held, marked)
    }

    /// What living processes use of blobs.
    pub(crate) fn held_blobs(&self) -> Result<HashSet<Digest>, StoreError> {
        let mut marked = Marked::default();
        self.mark_leases(&mut marked)?;
        Ok(marked.blobs)
    }

    fn mark_containers(&self, marked: &mut Marked) -> Result<(), StoreError> {
        for owner in names(&self.path("containers"))? {
            if let Some(uses) = self.uses(&owner)? {
                marked.trees.extend(uses.trees);
            }
        }
        Ok(())
    }

    /// What the build cache names stays until it is pruned; entries whose layer is gone go.
    fn mark_cache(&self, marked: &mut Marked) -> Result<(), StoreError> {
        let directory = self.path("cache");
        for name in names(&directory)? {
            let path = directory.join(name);
            let bytes = read(&path)?.unwrap_or_default();
            let diff_id: Option<DiffId> = String::from_utf8_lossy(&bytes).trim().parse().ok();
            let record = match diff_id {
                Some(diff_id) => self.read_record(&record_name(&diff_id, None))?,
                None => None,
            };
            match record {
                Some(record) => {
                    marked.trees.insert(record.tree);
                }
                None => remove_file(&path)?,
            }
        }
        Ok(())
    }

    /// Manifests, their configs, their layers' blobs and trees; of indexes all their manifests, too.
    fn mark_documents(
        &self,
        documents: Vec<Digest>,
        marked: &mut Marked,
    ) -> Result<(), StoreError> {
        let mut walk = Walk::new(self);
        for document in documents {
            walk.from(document, &mut |document, links| {
                marked.blobs.insert(document.clone());
                let Some(links) = links else {
                    return Ok(());
                };
                for blob in links.blobs() {
                    marked.blobs.insert(digest_of(blob)?);
                }
                for (diff_id, record) in self.layers_of(links)? {
                    match record {
                        Some(record) => {
                            marked.trees.insert(record.tree);
                        }
                        None if marked.unread.contains(&diff_id) => self.check_remade(&diff_id)?,
                        None => {}
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Layers with a record that cannot be read.
    fn unread_layers(&self) -> Result<HashSet<DiffId>, StoreError> {
        let mut unread = HashSet::new();
        for name in names(&self.path("layers"))? {
            if let Some(Err(_)) = self.parsed_record(&name)? {
                unread.extend(diff_id_of(&name));
            }
        }
        Ok(unread)
    }

    /// That a layer of an image can be made anew, of whose tree nothing is known any more: otherwise the tree must not go.
    fn check_remade(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        if self.can_be_made(diff_id)? {
            return Ok(());
        }
        Err(damaged(
            format!("the record of layer {}", diff_id.0.short()),
            "it cannot be read and the layer is nowhere else, so nothing is removed; `dhow system check` names its images",
        ))
    }

    fn sweep_blobs(&self, marked: &Marked, collected: &mut Collected) -> Result<(), StoreError> {
        for algorithm in ["sha256", "sha512"] {
            let directory = self.path("blobs").join(algorithm);
            for hex in names(&directory)? {
                let digest = format!("{algorithm}:{hex}").parse::<Digest>();
                if digest.is_ok_and(|digest| marked.blobs.contains(&digest)) {
                    continue;
                }
                let path = directory.join(hex);
                collected.bytes += fs::metadata(&path).map_or(0, |found| found.len());
                collected.blobs += 1;
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes records of trees that nothing uses; gives the trees that have one still.
    fn sweep_records(
        &self,
        marked: &Marked,
        collected: &mut Collected,
    ) -> Result<HashSet<String>, StoreError> {
        let directory = self.path("layers");
        let mut recorded = HashSet::new();
        for name in names(&directory)? {
            let path = directory.join(&name);
            let bytes = read(&path)?.unwrap_or_default();
            let record: Option<crate::layers::LayerRecord> = serde_json::from_slice(&bytes).ok();
            match record {
                Some(record) if marked.trees.contains(&record.tree) => {
                    recorded.insert(record.tree);
                }
                record => {
                    collected.bytes += record.map_or(0, |record| record.tar_size);
                    remove_file(&path)?;
                }
            }
        }
        Ok(recorded)
    }

    /// Notes of blobs that are gone. Of those that a registry has it stays as long as the layer is here.
    fn sweep_compressed(&self) -> Result<(), StoreError> {
        let directory = self.path("compressed");
        let records = names(&self.path("layers"))?;
        let layers: HashSet<&str> = records
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.split('@').next())
            .collect();
        for name in names(&directory)? {
            let diff_id = name.replacen('-', ":", 1).parse::<DiffId>();
            let blob = match &diff_id {
                Ok(diff_id) => self.compressed(diff_id)?,
                Err(_) => None,
            };
            let there = match blob {
                Some(blob) => {
                    let digest = digest_of(&blob)?;
                    let kept = layers.contains(name.as_str());
                    self.has_blob(&digest) || kept && self.is_dropped(&digest)
                }
                None => false,
            };
            if !there {
                remove_file(&directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Parts that nobody has gone on with for so long, and temporary files that nobody will.
    fn sweep_parts(&self, part_age: Duration) -> Result<(), StoreError> {
        for (directory, age) in [("ingest", part_age), ("tmp", TEMPORARY_AGE)] {
            let directory = self.path(directory);
            for name in names(&directory)? {
                let path = directory.join(name);
                if is_older(&path, age)
                    && let Ok(file) = File::open(&path)
                    && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                    // Who had it may have removed it before it was locked, and another have begun anew.
                    && is_named(&file, &path)
                {
                    remove_file(&path).map_err(|error| match error {
                        StoreError::Io { source, .. } => io("removing", &path)(source),
                        other => other,
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Removes the empty directories that a crash left between the making of a name's directories and the name.
fn remove_empty_below(directory: &Path) {
    for name in names(directory).unwrap_or_default() {
        let path = directory.join(name);
        if path.is_dir() {
            remove_empty_below(&path);
            // It stays where it is not empty.
            let _ = fs::remove_dir(&path);
        }
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| {
        SystemTime::now()
            .duration_since(modified)
            .is_ok_and(|passed| passed >= age)
    })
}
