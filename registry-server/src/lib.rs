//! The embedded registry: an OCI distribution server over blobs on disk.
