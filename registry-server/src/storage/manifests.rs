//! Manifests, the tags that name them, and who refers to whom.

use std::io;
use std::path::PathBuf;

use dhow_image::Digest;

use super::{Storage, by_digest, digests_in, names_in, parent, read, remove, sync_directory};
use crate::name::{ManifestName, RepositoryName, Tag};

/// A manifest as it was put.
pub(crate) struct StoredManifest {
    /// Its digest.
    pub(crate) digest: Digest,
    /// The content type that it was put with.
    pub(crate) media_type: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Storage {
    fn manifest_link(&self, name: &RepositoryName, digest: &Digest) -> PathBuf {
        by_digest(self.repository(name).join("_manifests"), digest)
    }

    fn tag_path(&self, name: &RepositoryName, tag: &Tag) -> PathBuf {
        self.repository(name).join("_tags").join(tag.as_str())
    }

    fn referrers_dir(&self, name: &RepositoryName, subject: &Digest) -> PathBuf {
        by_digest(self.repository(name).join("_referrers"), subject)
    }

    /// The manifest that a tag or digest names in the repository.
    pub(crate) fn manifest(
        &self,
        name: &RepositoryName,
        manifest: &ManifestName,
    ) -> io::Result<Option<StoredManifest>> {
        let digest = match manifest {
            ManifestName::Digest(digest) => digest.clone(),
            ManifestName::Tag(tag) => match self.tagged(name, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let Some(media_type) = read(&self.manifest_link(name, &digest))? else {
            return Ok(None);
        };
        let Some(bytes) = read(&self.blob_path(&digest))? else {
            return Ok(None);
        };
        Ok(Some(StoredManifest {
            digest,
            media_type: String::from_utf8_lossy(&media_type).into_owned(),
            bytes,
        }))
    }

    /// Whether the repository has the manifest.
    pub(crate) fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.manifest_link(name, digest).exists()
    }

    fn tagged(&self, name: &RepositoryName, tag: &Tag) -> io::Result<Option<Digest>> {
        let content = read(&self.tag_path(name, tag))?;
        Ok(content.and_then(|content| String::from_utf8(content).ok()?.trim_end().parse().ok()))
    }

    /// Keeps a manifest that has been checked, and its tags; on disk with all that it names when this returns.
    pub(crate) fn put_manifest(
        &self,
        name: &RepositoryName,
        manifest: &StoredManifest,
        tags: &[Tag],
        subject: Option<&Digest>,
    ) -> io::Result<()> {
        let digest = &manifest.digest;
        self.sync_links(name)?;
        if !self.blob_path(digest).exists() {
            self.write_durably(&self.blob_path(digest), &manifest.bytes)?;
        }
        if let Some(subject) = subject {
            let file = format!("{}-{}", digest.algorithm().name(), digest.hex());
            self.write_durably(&self.referrers_dir(name, subject).join(file), b"")?;
        }
        let media_type = manifest.media_type.as_bytes();
        self.write_durably(&self.manifest_link(name, digest), media_type)?;
        for tag in tags {
            self.write_durably(&self.tag_path(name, tag), digest.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Takes a tag away; whether it was there.
    pub(crate) fn remove_tag(&self, name: &RepositoryName, tag: &Tag) -> io::Result<bool> {
        let path = self.tag_path(name, tag);
        let removed = remove(&path)?;
        if removed {
            sync_directory(parent(&path))?;
        }
        Ok(removed)
    }

    /// Takes a manifest away with the tags that name it; whether it was there.
    pub(crate) fn remove_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        subject: Option<&Digest>,
    ) -> io::Result<bool> {
        for tag in self.tags(name)? {
            if self.tagged(name, &tag)?.as_ref() == Some(digest) {
                self.remove_tag(name, &tag)?;
            }
        }
        if let Some(subject) = subject {
            let file = format!("{}-{}", digest.algorithm().name(), digest.hex());
            remove(&self.referrers_dir(name, subject).join(file))?;
        }
        let link = self.manifest_link(name, digest);
        let removed = remove(&link)?;
        if removed {
            sync_directory(parent(&link))?;
        }
        Ok(removed)
    }

    /// The repository's tags, sorted by their bytes.
    pub(crate) fn tags(&self, name: &RepositoryName) -> io::Result<Vec<Tag>> {
        let names = names_in(&self.repository(name).join("_tags"))?;
        Ok(names.iter().filter_map(|name| Tag::read(name)).collect())
    }

    /// The manifests of the repository that have `subject` as their subject.
    pub(crate) fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> io::Result<Vec<StoredManifest>> {
        let mut found = Vec::new();
        for file in names_in(&self.referrers_dir(name, subject))? {
            let Ok(digest) = file.replacen('-', ":", 1).parse() else {
                continue;
            };
            found.extend(self.manifest(name, &ManifestName::Digest(digest))?);
        }
        Ok(found)
    }

    /// The repositories that have manifests, sorted by their bytes.
    pub(crate) fn catalog(&self) -> io::Result<Vec<RepositoryName>> {
        let mut found = Vec::new();
        for name in self.every_repository()? {
            if !digests_in(&self.repository(&name).join("_manifests"))?.is_empty() {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Every repository that has a directory, sorted by its bytes.
    pub(super) fn every_repository(&self) -> io::Result<Vec<RepositoryName>> {
        let mut found = Vec::new();
        let mut ahead = vec![String::new()];
        while let Some(prefix) = ahead.pop() {
            for component in names_in(&self.repositories().join(&prefix))? {
                let name = match prefix.as_str() {
                    "" => component,
                    _ => format!("{prefix}/{component}"),
                };
                if let Some(checked) = RepositoryName::read(&name) {
                    found.push(checked);
                    ahead.push(name);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Every manifest that the repository has.
    pub(super) fn manifests(&self, name: &RepositoryName) -> io::Result<Vec<Digest>> {
        digests_in(&self.repository(name).join("_manifests"))
    }
}
