//! The client against the embedded registry, and against registries that do as they are told.

#![allow(clippy::unwrap_used, reason = "a test may fail there")]

mod access;
mod changed_push;
mod hostile;
mod kit;
mod referrers;
mod round_trip;
mod uploads;
