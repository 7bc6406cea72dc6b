//! Speaks the OCI distribution protocol: resolve, pull, push, copy, auth.

mod client;
mod credentials;

pub use client::{BlobOutcome, Pulled, Pushed, PushedBlob, Resolved};
pub use client::{Client, ClientOptions};
pub use credentials::Credentials;
