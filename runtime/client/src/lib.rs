//! Starts the dhow-runtime program and reads its answers.
