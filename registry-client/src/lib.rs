//! Speaks the OCI distribution protocol: resolve, pull, push, auth.
//!
//! It is blocking and uses threads where blobs move side by side. What comes goes into a [`dhow_image::BlobSink`] and what goes is read
//! from a [`dhow_image::BlobSource`], so it knows nothing of how images are kept.

mod auth;
mod body;
mod challenge;
mod client;
mod copy;
mod credentials;
mod download;
mod endpoint;
mod given;
mod login;
mod manifest;
mod pages;
mod parallel;
mod pull;
mod push;
mod referrers;
mod refusal;
mod registries;
mod repository;
mod roots;
mod source;
mod standing;
mod tags;
mod tls;
mod transfer;
mod transport;
pub mod trial;
mod upload;

pub use body::Patience;
pub use client::{Client, ClientOptions};
pub use copy::{Copied, copy};
pub use credentials::{Account, AccountError, Credentials, Kept, Keychain, Proof};
pub use manifest::Resolved;
pub use pull::{Pulled, Wanted};
pub use push::{BlobOutcome, Pushed, PushedBlob};
pub use registries::Registries;
pub use source::RegistrySource;
pub use tls::Trust;
