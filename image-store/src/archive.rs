//! Archives of images as places to copy from and to, one image at a time. Loading and saving whole archives is in load.rs and save.rs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::path::Path;

use dhow_image::{
    BlobBody, BlobSource, CheckedReader, Compression, Descriptor, Digest, DocumentKind, Hasher,
    ImageConfiguration, ImageReference, ImageTree, Progress, Silent, TransferError,
    TransferErrorKind, read_document,
};
use oci_spec::image::MediaType;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::StoreError;
use crate::blobs::digest_of;
use crate::commit::{document, manifest_of};
use crate::docker_archive::Members;
use crate::error::io as io_error;
use crate::layout::{broken, chosen, entries};
use crate::lease::descriptor;
use crate::load::reading;
use crate::save::{ArchiveForm, REF_NAME, append, append_whole, writing};
use crate::store::sync_directory;

/// Opens an archive so that it can be read at any place; one that is compressed is inflated into a temporary file.
///
/// # Errors
/// When it cannot be read.
pub fn open_archive(path: &Path) -> Result<File, StoreError> {
    let mut file = File::open(path).map_err(io_error("opening", path))?;
    let mut start = Vec::new();
    let read = (&file).take(4).read_to_end(&mut start);
    read.and_then(|_| file.rewind())
        .map_err(io_error("reading", path))?;
    let mut inflated: Box<dyn Read> = match Compression::of_bytes(&start) {
        Compression::None => return Ok(file),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::Decoder::new(file).map_err(io_error("reading", path))?),
    };
    let mut plain = tempfile::tempfile().map_err(io_error("making", std::env::temp_dir()))?;
    io::copy(&mut inflated, &mut plain).map_err(io_error("inflating", path))?;
    plain.rewind().map_err(io_error("reading", path))?;
    Ok(plain)
}

/// One image of an archive.
pub struct ArchivedImage<'a> {
    members: Members<'a>,
    root: Descriptor,
    /// What the archive does not have under the name of its digest: documents that were made for it, and files of other names.
    documents: HashMap<Digest, Vec<u8>>,
    files: HashMap<Digest, String>,
}

impl<'a> ArchivedImage<'a> {
    /// Finds an image: in OCI's form by its tag, in Docker's by one of its names; without one, the only image there is. `path` is for
    /// messages.
    ///
    /// # Errors
    /// When there is no such image, or the archive is of another form.
    pub fn find(
        archive: &'a File,
        form: ArchiveForm,
        name: Option<&str>,
        path: &Path,
    ) -> Result<Self, StoreError> {
        let members = Members::read(archive)?;
        let listed = match form {
            ArchiveForm::Oci => "index.json",
            ArchiveForm::Docker => "manifest.json",
        };
        if !members.has(listed) {
            return Err(StoreError::Invalid(format!(
                "{} is no archive of this form: it has no {listed}",
                path.display()
            )));
        }
        let index: Value = serde_json::from_slice(&members.document(listed)?)
            .map_err(|error| broken(listed, error))?;
        match form {
            ArchiveForm::Oci => Ok(Self {
                root: chosen(&entries(&index, listed)?, name, path)?,
                members,
                documents: HashMap::new(),
                files: HashMap::new(),
            }),
            ArchiveForm::Docker => Self::listed(members, &index, name, path),
        }
    }

    /// What it stands for: a manifest or an index.
    pub fn root(&self) -> &Descriptor {
        &self.root
    }

    /// An image of Docker's form; its manifest is made here, since such an archive has none.
    fn listed(
        members: Members<'a>,
        list: &Value,
        name: Option<&str>,
        path: &Path,
    ) -> Result<Self, StoreError> {
        let entry = listed_entry(list, name, path)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let config_name = text(&entry["Config"])
            .ok_or_else(|| broken("manifest.json", "an image has no config"))?;
        let config_bytes = members.document(&config_name)?;
        let config: ImageConfiguration =
            serde_json::from_slice(&config_bytes).map_err(|error| broken(&config_name, error))?;
        let names = entry["Layers"].as_array().cloned().unwrap_or_default();
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != names.len() {
            return Err(broken(
                &config_name,
                "it and manifest.json disagree on the image's layers",
            ));
        }
        let mut files = HashMap::new();
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let name = text(name).ok_or_else(|| broken("manifest.json", "a layer has no name"))?;
            let diff_id = diff_id.parse().map_err(|error| broken(diff_id, error))?;
            let layer = members.layer(&name, &diff_id)?;
            files.insert(digest_of(&layer)?, name);
            layers.push(layer);
        }
        let id = Digest::of(&config_bytes);
        let config = descriptor(MediaType::ImageConfig, config_bytes.len() as u64, &id);
        let manifest = document(&manifest_of(config, layers)?)?;
        let digest = Digest::of(&manifest);
        let root = descriptor(MediaType::ImageManifest, manifest.len() as u64, &digest);
        let documents = HashMap::from([(id, config_bytes), (digest, manifest)]);
        Ok(Self {
            members,
            root,
            documents,
            files,
        })
    }
}

/// The image of a `manifest.json` that is asked for.
fn listed_entry<'v>(
    list: &'v Value,
    name: Option<&str>,
    path: &Path,
) -> Result<&'v Value, StoreError> {
    let all: Vec<&Value> = list.as_array().into_iter().flatten().collect();
    let tags = |entry: &Value| -> Vec<String> {
        let tags = entry["RepoTags"].as_array().into_iter().flatten();
        tags.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let place = path.display();
    let listed: Vec<String> = all.iter().flat_map(|entry| tags(entry)).collect();
    let Some(name) = name else {
        return match all.as_slice() {
            [only] => Ok(only),
            [] => Err(StoreError::Invalid(format!("{place} has no image"))),
            _ => Err(StoreError::Invalid(format!(
                "{place} has several images; write {place}:NAME (it has {})",
                listed.join(", ")
            ))),
        };
    };
    let wanted: ImageReference = name
        .parse()
        .map_err(|error: dhow_image::ReferenceError| StoreError::Invalid(error.to_string()))?;
    let is_it = |entry: &&&Value| {
        let mut tags = tags(entry).into_iter();
        tags.any(|tag| tag.parse::<ImageReference>().is_ok_and(|tag| tag == wanted))
    };
    all.iter().find(is_it).copied().ok_or_else(|| {
        let listed = listed.join(", ");
        StoreError::Invalid(format!("{place} has no image {name}; it has {listed}"))
    })
}

impl BlobSource for ArchivedImage<'_> {
    fn open(&self, descriptor: &Descriptor, _: u64) -> Result<BlobBody<'_>, TransferError> {
        let digest = digest_of(descriptor)?;
        let corrupt = |error: Box<dyn std::error::Error + Send + Sync>| {
            TransferError::caused(TransferErrorKind::Corrupt, "reading the archive", error)
        };
        let reader: Box<dyn Read + Send + '_> = match self.documents.get(&digest) {
            Some(bytes) => Box::new(bytes.as_slice()),
            None => {
                let own = format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
                let name = self.files.get(&digest).unwrap_or(&own);
                let found = self
                    .members
                    .open(name)
                    .map_err(|error| corrupt(error.into()))?;
                Box::new(found)
            }
        };
        let checked =
            CheckedReader::new(reader, descriptor).map_err(|error| corrupt(error.into()))?;
        Ok(BlobBody {
            reader: Box::new(checked),
            offset: 0,
        })
    }
}

/// Writes one image into an archive, which takes the place of what was under its name when it is complete.
///
/// `name` is the tag in OCI's form, and the image's name in Docker's.
///
/// # Errors
/// When a part of the image cannot be read or is not what its digest says, or the file not be written; Docker's form takes an image for
/// one platform.
pub fn write_archive(
    path: &Path,
    form: ArchiveForm,
    name: Option<&str>,
    tree: &ImageTree,
    source: &dyn BlobSource,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new()
        .prefix(".dhow-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(io_error("making a file in", directory))?;
    let writing = Writing {
        tree,
        source,
        progress,
        name,
    };
    match form {
        ArchiveForm::Oci => writing.oci(&temporary)?,
        ArchiveForm::Docker => writing.docker(&temporary, directory)?,
    }
    temporary
        .as_file()
        .sync_all()
        .map_err(io_error("syncing", path))?;
    temporary
        .persist(path)
        .map_err(|error| io_error("writing", path)(error.error))?;
    sync_directory(directory)
}

struct Writing<'a> {
    tree: &'a ImageTree,
    source: &'a dyn BlobSource,
    progress: &'a dyn Progress,
    name: Option<&'a str>,
}

impl Writing<'_> {
    fn oci(&self, file: &NamedTempFile) -> Result<(), StoreError> {
        let mut tar = tar::Builder::new(BufWriter::with_capacity(256 * 1024, file));
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut entry = match self.tree.documents().last() {
            Some(root) => serde_json::to_value(&root.descriptor)
                .map_err(|error| broken("a descriptor", error))?,
            None => Value::Null,
        };
        if let Some(name) = self.name {
            entry["annotations"] = json!({ REF_NAME: name });
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        append(&mut tar, "index.json", index.to_string().as_bytes())?;
        for part in self.tree.documents() {
            let digest = digest_of(&part.descriptor)?;
            append(&mut tar, &blob_name(&digest), &part.bytes)?;
        }
        for blob in self.tree.blobs() {
            let digest = digest_of(blob)?;
            let content = self.checked(blob)?;
            append_whole(
                &mut tar,
                &blob_name(&digest),
                &digest,
                blob.size(),
                content,
                self.progress,
            )?;
            self.progress.end(digest.short(), "copied");
        }
        finish(tar)
    }

    fn docker(&self, file: &NamedTempFile, directory: &Path) -> Result<(), StoreError> {
        let refused = |reason: &str| StoreError::Invalid(format!("a docker-archive {reason}"));
        let [manifest] = self.tree.documents() else {
            return Err(refused(
                "holds an image for one platform only; choose it with --platform",
            ));
        };
        let links = &manifest.links;
        let (Some(config), Some(DocumentKind::Manifest)) = (
            &links.config,
            DocumentKind::of(manifest.descriptor.media_type()),
        ) else {
            return Err(refused("holds images, and this is none"));
        };
        let id = digest_of(config)?;
        let bytes = read_document(self.source, config).map_err(|error| broken(&id, error))?;
        let parsed: ImageConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| broken(&id, error))?;
        let diff_ids = parsed.rootfs().diff_ids();
        if diff_ids.len() != links.layers.len() {
            return Err(refused("holds images, and this is none"));
        }
        let mut tar = tar::Builder::new(BufWriter::with_capacity(256 * 1024, file));
        let mut names: Vec<String> = Vec::new();
        for (layer, diff_id) in links.layers.iter().zip(diff_ids) {
            let diff_id: Digest = diff_id.parse().map_err(|error| broken(diff_id, error))?;
            let name = format!("{}.tar", diff_id.hex());
            if !names.contains(&name) {
                let (content, size) = self.inflated(layer, &diff_id, directory)?;
                append_whole(&mut tar, &name, &diff_id, size, content, &Silent)?;
                self.progress
                    .end(digest_of(layer)?.short(), "copied, uncompressed");
            }
            names.push(name);
        }
        let config_name = format!("{}.json", id.hex());
        append(&mut tar, &config_name, &bytes)?;
        let tags: Vec<String> = self.name.iter().map(|name| (*name).to_owned()).collect();
        let list = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
        append(&mut tar, "manifest.json", list.to_string().as_bytes())?;
        finish(tar)
    }

    fn checked(&self, blob: &Descriptor) -> Result<impl Read, StoreError> {
        let digest = digest_of(blob)?;
        self.progress
            .begin(digest.short(), "copying", Some(blob.size()));
        let body = self
            .source
            .open(blob, 0)
            .map_err(|error| broken(&digest, error))?;
        CheckedReader::new(body.reader, blob).map_err(|error| broken(&digest, error))
    }

    /// The layer's tar in a file without a name: its size has to be known before it is written.
    fn inflated(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        directory: &Path,
    ) -> Result<(File, u64), StoreError> {
        let mut content = io::BufReader::with_capacity(128 * 1024, self.checked(layer)?);
        let start = io::BufRead::fill_buf(&mut content).map_err(|error| broken(diff_id, error))?;
        let mut tar: Box<dyn Read + '_> = match Compression::of_bytes(start) {
            Compression::None => Box::new(content),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(content)),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(content).map_err(reading)?),
        };
        let mut file =
            tempfile::tempfile_in(directory).map_err(io_error("making a file in", directory))?;
        let mut hasher = Hasher::new(diff_id.algorithm());
        let mut buffer = vec![0; 256 * 1024];
        let mut size = 0;
        loop {
            let count = tar
                .read(&mut buffer)
                .map_err(|error| broken(diff_id, error))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(writing)?;
            size += count as u64;
        }
        let found = hasher.finish();
        if found != *diff_id {
            return Err(StoreError::Digest {
                what: "the layer's tar".to_owned(),
                expected: diff_id.to_string(),
                found: found.to_string(),
            });
        }
        file.rewind().map_err(writing)?;
        Ok((file, size))
    }
}

fn finish<W: Write>(tar: tar::Builder<W>) -> Result<(), StoreError> {
    let mut out = tar.into_inner().map_err(writing)?;
    out.flush().map_err(writing)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
