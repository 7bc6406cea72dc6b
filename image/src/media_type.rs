//! What a media type says of the bytes it names: image-spec, media-types.md, and Docker's image manifest v2 schema 2.

use oci_spec::image::MediaType;

/// How a layer's tar stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8478.
    Zstd,
}

impl Compression {
    /// The compression of a layer of this media type; none where it is no layer.
    pub fn of_layer(media_type: &MediaType) -> Option<Self> {
        match media_type.to_string().as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The compression that the first bytes of a stream show; `None` is also the answer for what is not compressed.
    pub fn of_bytes(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame that is passed over, with which some writers begin (RFC 8878, section 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The program by which a stream is compressed that begins so, where it is one that is not read here.
    pub fn unread_of_bytes(start: &[u8]) -> Option<&'static str> {
        match start {
            [0xfd, b'7', b'z', b'X', ..] => Some("xz"),
            [b'B', b'Z', b'h', ..] => Some("bzip2"),
            _ => None,
        }
    }

    /// The media type of a layer compressed so.
    pub fn layer_media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// Whether this is a layer that its maker does not want to be distributed: who needs it is to ask the addresses that its descriptor names.
pub fn is_nondistributable(media_type: &MediaType) -> bool {
    let text = media_type.to_string();
    Compression::of_layer(media_type).is_some()
        && (text.contains("nondistributable") || text.contains("foreign"))
}

/// Which document a manifest's media type announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// An image manifest (OCI or Docker schema 2).
    Manifest,
    /// An image index (OCI) or manifest list (Docker).
    Index,
}

impl DocumentKind {
    /// The kind of document of this media type; none where it is neither.
    pub fn of(media_type: &MediaType) -> Option<Self> {
        match media_type.to_string().as_str() {
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Some(Self::Manifest),
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Self::Index),
            _ => None,
        }
    }
}
