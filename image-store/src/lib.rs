//! Keeps blobs, tags, unpacked layers and snapshots on disk, and gives out root file systems.
//!
//! docs/layout.md tells where everything lies, docs/locks.md who may do what when, docs/promises.md what holds after a crash.

mod archive;
mod blobs;
mod cache;
mod check;
mod collect;
mod commit;
mod distribute;
mod docker_archive;
mod dropped;
mod error;
mod gzip;
mod id_mapped;
mod image;
mod import;
mod index;
mod ingest;
mod layers;
mod layout;
mod lease;
mod load;
mod locations;
mod mount;
mod pipe;
mod reach;
mod root_fs;
mod save;
mod serve;
mod settling;
mod snapshot;
mod source;
mod store;
mod sweep;
mod sync;
mod tags;
mod unpacking;
mod usage;
mod whole;

pub use archive::{ArchivedImage, open_archive, write_archive};
pub use check::Flaw;
pub use collect::Collected;
pub use error::{StoreError, StoreErrorKind};
pub use id_mapped::MappedIds;
pub use image::Image;
pub use import::ImportConfig;
pub use layout::Layout;
pub use lease::Lease;
pub use locations::Locations;
pub use mount::enter_private_mounts;
pub use root_fs::RootFs;
pub use save::ArchiveForm;
pub use snapshot::{ActiveSnapshot, CommittedSnapshot};
pub use store::{Store, is_hosts_root};
pub use tags::Removed;
pub use usage::{Share, Usage};
