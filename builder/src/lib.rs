//! Instructions and a context to an image: plan, cache, execute, commit.
