//! Overlay mounts.

#![allow(clippy::todo)]

use crate::StoreError;

/// Puts the calling thread into a mount namespace of its own, from which no mount gets out; done once, before other threads
/// start. What is mounted afterwards is gone with the process and whatever it started.
///
/// # Errors
/// Without the privilege to do so.
pub fn enter_private_mounts() -> Result<(), StoreError> {
    todo!()
}
