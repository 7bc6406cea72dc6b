//! Speaks the OCI distribution protocol: resolve, pull, push, copy, auth.
