//! References: the names of images, and how they are found by them.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dhow_image::{Descriptor, Digest, DocumentKind, ImageReference};
use serde::{Deserialize, Serialize};

use crate::blobs::digest_of;
use crate::error::{damaged, io};
use crate::index::plain;
use crate::store::{names, read, sync_directory};
use crate::{Image, Store, StoreError};

/// Where images that no reference names are kept: no registry can have this name.
const UNNAMED: &str = "@";

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The references that are gone.
    pub untagged: Vec<ImageReference>,
    /// The ids of the images that have no reference any more.
    pub deleted: Vec<Digest>,
}

/// The file of a reference, with what it says or why it cannot be read.
pub(crate) type TagFile = (PathBuf, Result<Tag, StoreError>);

/// The content of a reference's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tag {
    /// None for an image that is kept without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<ImageReference>,
    /// The image that is run under this name: this machine's, or another's where there is none for it.
    pub(crate) manifest: Descriptor,
    /// What the name stands for as a whole, where all its platforms are kept; `manifest` is one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Descriptor>,
}

impl Store {
    /// Finds an image by a reference, or by its id (`sha256:...`, or the beginning of its digits).
    ///
    /// # Errors
    /// When there is none, or the beginning of an id fits several.
    pub fn find(&self, name: &str) -> Result<Image, StoreError> {
        let reference: Result<ImageReference, _> = name.parse();
        if let Ok(reference) = &reference
            && let Some(image) = self.image(reference)?
        {
            return Ok(image);
        }
        let Some(digits) = id_digits(name) else {
            return Err(match reference {
                Ok(reference) => StoreError::NoSuchImage(reference.familiar()),
                Err(error) => StoreError::Invalid(error.to_string()),
            });
        };
        let mut found: Option<Image> = None;
        for image in self.images()? {
            let is_it = |manifest: &Descriptor| manifest.digest().digest() == digits;
            if !image.id.hex().starts_with(digits)
                && !is_it(&image.descriptor)
                && !image.manifests.iter().any(|(_, manifest)| is_it(manifest))
                && !image.indexes.iter().any(|(_, index)| is_it(index))
            {
                continue;
            }
            if found.is_some() {
                return Err(StoreError::Ambiguous(name.to_owned()));
            }
            found = Some(image);
        }
        found.ok_or_else(|| StoreError::NoSuchImage(name.to_owned()))
    }

    /// The image that `reference` names.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn image(&self, reference: &ImageReference) -> Result<Option<Image>, StoreError> {
        let Some(tag) = read_tag(&self.tag_path(reference))? else {
            return Ok(None);
        };
        let mut image = Image::read(self, &tag.manifest)?;
        image.named(&tag);
        Ok(Some(image))
    }

    /// What a reference names, whether it can be read or not: the manifest that is run, and the index where all platforms are kept.
    ///
    /// # Errors
    /// When the reference cannot be read.
    pub fn named(
        &self,
        reference: &ImageReference,
    ) -> Result<Option<(Descriptor, Option<Descriptor>)>, StoreError> {
        match read_tag(&self.tag_path(reference)) {
            // What stood there is not known any more, and is replaced.
            Err(StoreError::Damaged { .. }) => Ok(None),
            tag => Ok(tag?.map(|tag| (tag.manifest, tag.index))),
        }
    }

    /// The image with this manifest, whether a name stands for it or not.
    ///
    /// # Errors
    /// When it is not here, or no image.
    pub fn unnamed(&self, manifest: &Descriptor) -> Result<Image, StoreError> {
        Image::read(self, &plain(manifest))
    }

    /// All images, each once, with all its references; latest made first. Those that cannot be read any more are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<Image>, StoreError> {
        self.images_and(|_, _| {})
    }

    /// The same; `damaged` is told the names of those that are left out, and why.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn images_and(
        &self,
        mut damaged: impl FnMut(String, StoreError),
    ) -> Result<Vec<Image>, StoreError> {
        let mut images: Vec<Image> = Vec::new();
        let mut by_id: HashMap<Digest, usize> = HashMap::new();
        let mut by_manifest: HashMap<String, usize> = HashMap::new();
        for (path, tag) in self.every_tag()? {
            let tag = match tag {
                Ok(tag) => tag,
                Err(error) => {
                    damaged(self.name_of(&path), error);
                    continue;
                }
            };
            let manifest = tag.manifest.digest().to_string();
            if let Some(index) = by_manifest.get(&manifest) {
                images[*index].named(&tag);
                continue;
            }
            let image = match Image::read(self, &tag.manifest) {
                Ok(image) => image,
                // Removed and collected since its name was read.
                Err(StoreError::Damaged { .. }) if !self.still_tagged(&tag)? => continue,
                Err(error @ StoreError::Damaged { .. }) => {
                    damaged(self.name_of(&path), error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let index = *by_id.entry(image.id.clone()).or_insert_with(|| {
                images.push(image);
                images.len() - 1
            });
            by_manifest.insert(manifest, index);
            images[index].named(&tag);
        }
        images.sort_by(|a, b| b.created().cmp(&a.created()).then(a.id.cmp(&b.id)));
        Ok(images)
    }

    /// Lets `reference` name the image with this manifest, which must be in the store. Durable when it returns.
    ///
    /// # Errors
    /// When the manifest is missing, or the reference cannot be written.
    pub fn tag(&self, reference: &ImageReference, manifest: &Descriptor) -> Result<(), StoreError> {
        self.tag_whole(reference, manifest, None)
    }

    /// The same for a name that stands for images of several platforms: `index` and all that it names must be in the store, `manifest`
    /// is the one of them that is run.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn tag_whole(
        &self,
        reference: &ImageReference,
        manifest: &Descriptor,
        index: Option<&Descriptor>,
    ) -> Result<(), StoreError> {
        let tag = Tag {
            reference: Some(reference.clone()),
            manifest: manifest.clone(),
            index: index.cloned(),
        };
        self.write_tag(&self.tag_path(reference), &tag)?;
        // It has a name now.
        let unnamed = self.unnamed_path(&digest_of(manifest)?);
        crate::store::remove_file(&unnamed)
    }

    /// Keeps an image that no reference names (a build without a tag), until it is removed by its id or pruned.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn keep(&self, manifest: &Descriptor) -> Result<(), StoreError> {
        self.keep_whole(manifest, None)
    }

    /// The same with the other platforms of its index.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn keep_whole(
        &self,
        manifest: &Descriptor,
        index: Option<&Descriptor>,
    ) -> Result<(), StoreError> {
        let digest = digest_of(manifest)?;
        for (_, tag) in self.tags()? {
            let has_index = index.is_none() || tag.index.as_ref() == index;
            if digest_of(&tag.manifest)? == digest && has_index {
                return Ok(());
            }
        }
        let tag = Tag {
            reference: None,
            manifest: manifest.clone(),
            index: index.cloned(),
        };
        self.write_tag(&self.unnamed_path(&digest), &tag)
    }

    /// Removes a reference, or by an id the image with all its references, durably. What then nothing uses is for
    /// [`Store::collect`] or [`Store::sweep`] to remove.
    ///
    /// # Errors
    /// When there is no such image, or, unless `force`, a container uses it or an id has several references.
    pub fn untag(&self, name: &str, force: bool) -> Result<Removed, StoreError> {
        let reference: Option<ImageReference> = name.parse().ok();
        let path = reference.as_ref().map(|reference| self.tag_path(reference));
        let named = match &path {
            Some(path) => read_tag(path).transpose(),
            None => None,
        };
        let image = match (self.find(name), &path) {
            // Of what cannot be read any more, the name can go all the same.
            (Err(StoreError::Damaged { .. }), Some(path)) if named.is_some() => {
                self.remove_tag(path)?;
                return Ok(Removed {
                    untagged: reference.into_iter().collect(),
                    deleted: Vec::new(),
                });
            }
            (image, _) => image?,
        };
        let mut tags = self.tags()?;
        tags.retain(|(_, tag)| self.is_of(tag, &image));
        let all = tags.len();
        if named.is_some() {
            tags.retain(|(_, tag)| tag.reference == reference);
        } else if all > 1 && !force {
            return Err(StoreError::Invalid(format!(
                "image {} has {all} names; remove them one by one, or force it (-f)",
                image.id.short()
            )));
        }
        let is_last = tags.len() == all;
        if is_last
            && !force
            && let Some(container) = self.user_of(&image.id)?
        {
            return Err(StoreError::InUse {
                image: name.to_owned(),
                container,
            });
        }
        let mut removed = Removed::default();
        for (path, tag) in tags {
            self.remove_tag(&path)?;
            removed.untagged.extend(tag.reference);
        }
        if is_last {
            removed.deleted.push(image.id.clone());
        }
        Ok(removed)
    }

    /// Removes the names of images that no container uses.
    ///
    /// # Errors
    /// When the store cannot be read, or a name not be removed.
    pub fn untag_unused(&self, fits: impl Fn(&Image) -> bool) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        for image in self.images()? {
            if !fits(&image) || self.user_of(image.id())?.is_some() {
                continue;
            }
            removed.deleted.push(image.id().clone());
            for (path, tag) in self.tags()? {
                if tag.manifest.digest() == image.descriptor().digest()
                    || tag
                        .reference
                        .as_ref()
                        .is_some_and(|r| image.references().contains(r))
                {
                    self.remove_tag(&path)?;
                    removed.untagged.extend(tag.reference);
                }
            }
        }
        Ok(removed)
    }

    /// All references with their files. Those that cannot be read are left out.
    pub(crate) fn tags(&self) -> Result<Vec<(PathBuf, Tag)>, StoreError> {
        let all = self.every_tag()?.into_iter();
        Ok(all
            .filter_map(|(path, tag)| Some((path, tag.ok()?)))
            .collect())
    }

    /// The files of references that cannot be read, and why.
    pub(crate) fn damaged_tags(&self) -> Result<Vec<(PathBuf, StoreError)>, StoreError> {
        let all = self.every_tag()?.into_iter();
        Ok(all
            .filter_map(|(path, tag)| Some((path, tag.err()?)))
            .collect())
    }

    /// All files of references with what they say.
    pub(crate) fn every_tag(&self) -> Result<Vec<TagFile>, StoreError> {
        let mut found = Vec::new();
        let mut directories = vec![self.path("tags")];
        while let Some(directory) = directories.pop() {
            for name in names(&directory)? {
                let path = directory.join(&name);
                if !(name.starts_with(':') || name.starts_with("@sha")) {
                    directories.push(path);
                    continue;
                }
                match read_tag(&path) {
                    Ok(None) => {}
                    Ok(Some(tag)) => found.push((path, Ok(tag))),
                    Err(error @ StoreError::Damaged { .. }) => found.push((path, Err(error))),
                    Err(error) => return Err(error),
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The name whose file this is.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        let top = self.path("tags");
        let name = path.strip_prefix(top).unwrap_or(path).to_string_lossy();
        let name = match name.split_once("/@sha") {
            Some((name, digest)) => format!("{name}@sha{}", digest.replacen('-', ":", 1)),
            None => name.replacen("/:", ":", 1),
        };
        let name: Result<ImageReference, _> = name.parse();
        name.map_or_else(|_| path.display().to_string(), |name| name.familiar())
    }

    /// Moves every reference from one manifest of an image to another of the same image. One with an index stays, since the other
    /// manifest is none of the index's.
    pub(crate) fn move_tags(&self, from: &Digest, to: &Descriptor) -> Result<(), StoreError> {
        for (path, mut tag) in self.tags()? {
            if tag.index.is_none() && digest_of(&tag.manifest)? == *from {
                tag.manifest = to.clone();
                self.write_tag(&path, &tag)?;
            }
        }
        Ok(())
    }

    /// Removes the file of a reference, durably, and the directories that then are empty.
    pub(crate) fn remove_tag(&self, path: &Path) -> Result<(), StoreError> {
        crate::store::remove_file(path)?;
        let top = self.path("tags");
        let mut synced = false;
        for directory in path.ancestors().skip(1).take_while(|d| *d != top) {
            if fs::remove_dir(directory).is_err() {
                // Another one made a name in it, or removed it.
                if directory.exists() {
                    sync_directory(directory)?;
                    synced = true;
                    break;
                }
            }
        }
        if synced { Ok(()) } else { sync_directory(&top) }
    }

    fn is_of(&self, tag: &Tag, image: &Image) -> bool {
        tag.manifest.digest() == image.descriptor.digest()
            || Image::read(self, &tag.manifest).is_ok_and(|other| other.id == image.id)
    }

    fn still_tagged(&self, tag: &Tag) -> Result<bool, StoreError> {
        let path = match &tag.reference {
            Some(reference) => self.tag_path(reference),
            None => self.unnamed_path(&digest_of(&tag.manifest)?),
        };
        let now = read_tag(&path)?;
        Ok(now.is_some_and(|now| now.manifest.digest() == tag.manifest.digest()))
    }

    fn write_tag(&self, path: &Path, tag: &Tag) -> Result<(), StoreError> {
        let digest = digest_of(&tag.manifest)?;
        let bytes = serde_json::to_vec(tag).map_err(|error| damaged("a reference", error))?;
        // Whoever tags holds a lease or knows another reference; the lock makes sure that none is collected in between.
        let _lock = self.lock_shared()?;
        if !self.has_blob(&digest) {
            return Err(StoreError::NoSuchImage(digest.to_string()));
        }
        if let Some(index) = &tag.index
            && !self.has_blob(&digest_of(index)?)
        {
            return Err(StoreError::NoSuchImage(index.digest().to_string()));
        }
        self.settle_places(tag.index.as_ref().unwrap_or(&tag.manifest))?;
        let directory = path.parent().unwrap_or(path);
        loop {
            self.make_tag_directory(directory)?;
            match self.write(path, &bytes, true) {
                // A removal took the empty directory away just now.
                Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
    }

    /// Makes a reference's directory and the new ones above it, durably.
    fn make_tag_directory(&self, directory: &Path) -> Result<(), StoreError> {
        let top = self.path("tags");
        let missing: Vec<&Path> = directory
            .ancestors()
            .take_while(|above| *above != top && !above.exists())
            .collect();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return self.make_tag_directory(directory);
                }
                other => other.map_err(io("making", path))?,
            }
            match path.parent() {
                Some(parent) if parent.exists() => sync_directory(parent)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The file of a reference: its registry and repository as directories, then `:TAG` or `@ALGORITHM-HEX`.
    pub(crate) fn tag_path(&self, reference: &ImageReference) -> PathBuf {
        let directory = self
            .path("tags")
            .join(reference.registry())
            .join(reference.repository());
        match reference.digest() {
            Some(digest) => {
                directory.join(format!("@{}-{}", digest.algorithm().name(), digest.hex()))
            }
            None => directory.join(format!(":{}", reference.tag().unwrap_or("latest"))),
        }
    }

    fn unnamed_path(&self, manifest: &Digest) -> PathBuf {
        let name = format!("@{}-{}", manifest.algorithm().name(), manifest.hex());
        self.path("tags").join(UNNAMED).join(name)
    }
}

fn read_tag(path: &Path) -> Result<Option<Tag>, StoreError> {
    let bytes = match read(path) {
        // A name that is longer than any file's, or whose directory is a file, names nothing.
        Err(StoreError::Io { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::NotADirectory | ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let tag: Tag =
        serde_json::from_slice(&bytes).map_err(|error| damaged(path.display(), error))?;
    let media_type = tag.manifest.media_type();
    if DocumentKind::of(media_type) != Some(DocumentKind::Manifest) {
        return Err(damaged(
            path.display(),
            format!("it names no image manifest but {media_type}"),
        ));
    }
    Ok(Some(tag))
}

/// The digits of what may be an id or its beginning.
fn id_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (!digits.is_empty() && digits.len() <= 64 && digits.bytes().all(hex)).then_some(digits)
}
