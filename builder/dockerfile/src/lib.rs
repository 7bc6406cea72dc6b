//! Dockerfile text to instructions with their source spans, and .dockerignore.
