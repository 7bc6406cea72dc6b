//! What a name stands for in the registry before it is pushed to. A repository has what a manifest of it names, so that of an older
//! version of the image nothing that stayed need be asked for.

use std::collections::{HashMap, HashSet};

use dhow_image::{
    Descriptor, Digest, DocumentKind, ImageReference, Links, TransferError, is_nondistributable,
};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, header};

use crate::body::document;
use crate::manifest::{self, ACCEPTED, CONTENT_DIGEST};
use crate::parallel;
use crate::refusal::{is_transient, refused};
use crate::repository::{Ask, Repository, drain, text};

/// What a name stands for.
pub(crate) enum Standing {
    /// What is to be pushed.
    This,
    /// Nothing, or something else, which names these.
    Other(Named),
}

/// What a document in the repository names, and is there therefore.
#[derive(Default)]
pub(crate) struct Named {
    /// The sizes of blobs by their digests.
    blobs: HashMap<String, u64>,
    /// The manifests of an index, of which nothing more is known yet: registries take an index that lacks some.
    manifests: Vec<Descriptor>,
}

impl Named {
    /// Whether this blob is there.
    pub(crate) fn has(&self, blob: &Descriptor) -> bool {
        // Who names it with another size means something else, or is wrong.
        self.blobs.get(blob.digest().as_ref()) == Some(&blob.size())
    }

    /// Whatever blob this document of the repository names is there.
    pub(crate) fn take(&mut self, links: &Links) {
        // Except for what its maker does not want to be distributed, which need not be.
        let blobs = links
            .blobs()
            .filter(|blob| !is_nondistributable(blob.media_type()));
        self.blobs
            .extend(blobs.map(|one| (one.digest().to_string(), one.size())));
    }

    /// Looks for these blobs in the manifests of an older index, except in `ours`, which are the same as they were, where that takes
    /// fewer requests than to ask for each blob.
    pub(crate) fn look_deeper(
        &mut self,
        at: &Asked<'_>,
        width: usize,
        blobs: &[&Descriptor],
        ours: &HashSet<String>,
    ) -> Result<(), TransferError> {
        let mut older = std::mem::take(&mut self.manifests);
        older.retain(|one| {
            DocumentKind::of(one.media_type()) == Some(DocumentKind::Manifest)
                && !ours.contains(one.digest().as_ref())
        });
        let unknown: HashSet<&str> = blobs
            .iter()
            .filter(|blob| !self.has(blob))
            .map(|blob| blob.digest().as_ref())
            .collect();
        if older.len() >= unknown.len() {
            return Ok(());
        }
        let found = parallel::each(&older, width, |one, _| {
            // Where it is not to be had as its digest has it, each blob is asked for.
            let mut links = at.links(one).unwrap_or_default();
            links.config = links.config.filter(|blob| is_among(blob, &unknown));
            links.layers.retain(|blob| is_among(blob, &unknown));
            Ok(links)
        })?;
        found.iter().for_each(|links| self.take(links));
        Ok(())
    }
}

fn is_among(blob: &Descriptor, digests: &HashSet<&str>) -> bool {
    digests.contains(blob.digest().as_ref())
}

/// Where is asked, and for what.
pub(crate) struct Asked<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) reference: &'a ImageReference,
}

impl Asked<'_> {
    /// What the reference stands for, where this is to be pushed.
    pub(crate) fn standing(&self, digest: &Digest) -> Result<Standing, TransferError> {
        let name = self.reference.manifest_name();
        let mut ask = self.question(Method::GET, &name);
        ask.is_optional = true;
        let response = self.repository.send(&ask)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND => {
                drain(response);
                return Ok(Standing::Other(Named::default()));
            }
            // Who does not give it out, counts what it gives out, or fails at it, may still say that it is there.
            status
                if is_unsupported(status) || is_transient(status) || status.is_server_error() =>
            {
                drain(response);
                return Ok(self.standing_by_head(&name, digest));
            }
            _ => return Err(refused("pushing", &self.reference.familiar(), response)),
        }
        let said = text(&response, header::CONTENT_TYPE).map(str::to_owned);
        // What cannot be read is replaced like anything else; then nothing is known.
        let Ok(bytes) = document(response, "reading what is there") else {
            return Ok(Standing::Other(Named::default()));
        };
        // The bytes count, not what a header says of them.
        if manifest::check(&bytes, digest, String::new).is_ok() {
            return Ok(Standing::This);
        }
        let mut named = Named::default();
        let media_type = manifest::media_type(&bytes, said.as_deref(), self.reference);
        if let Ok(links) = media_type.and_then(|kind| Links::read(&kind, &bytes)) {
            named.take(&links);
            named.manifests = links.manifests;
        }
        Ok(Standing::Other(named))
    }

    /// What the name stands for as far as one `HEAD` tells. The push itself finds out what is wrong, and how long that is waited for.
    fn standing_by_head(&self, name: &str, digest: &Digest) -> Standing {
        let mut ask = self.question(Method::HEAD, name);
        ask.again = false;
        match self.repository.send(&ask) {
            Ok(response) if is_named(&response, digest) => Standing::This,
            _ => Standing::Other(Named::default()),
        }
    }

    /// Whether a name, a tag or a digest, stands for this document, as the registry says.
    pub(crate) fn is_there(&self, name: &str, digest: &Digest) -> Result<bool, TransferError> {
        let response = self.repository.send(&self.question(Method::HEAD, name))?;
        match response.status() {
            StatusCode::OK => Ok(is_named(&response, digest)),
            // It is sent once more, then.
            status if status == StatusCode::NOT_FOUND || is_unsupported(status) => Ok(false),
            _ => Err(refused("pushing", &self.reference.familiar(), response)),
        }
    }

    fn question(&self, method: Method, name: &str) -> Ask<'static> {
        let url = self.repository.url(&format!("manifests/{name}"));
        let doing = format!("pushing {}", self.reference.familiar());
        Ask::new(method, url, doing).header(header::ACCEPT, ACCEPTED)
    }

    /// What an older manifest names.
    fn links(&self, manifest: &Descriptor) -> Result<Links, TransferError> {
        let digest = manifest::digest_of(manifest)?;
        let at = self.reference.at_digest(digest);
        let (found, bytes) = manifest::fetch(self.repository, &at)?;
        Links::read(found.media_type(), &bytes)
    }
}

/// Whether the answer says that what was asked for is this document.
fn is_named(response: &Response<Body>, digest: &Digest) -> bool {
    response.status() == StatusCode::OK
        && text(response, CONTENT_DIGEST) == Some(&digest.to_string())
}

/// Whether this is how servers say that they do not know the method.
pub(crate) fn is_unsupported(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}
