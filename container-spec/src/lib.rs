//! An image's config and a person's options to the OCI Spec of a safe container.
