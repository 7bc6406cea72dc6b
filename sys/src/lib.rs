//! The typed kernel calls that nix and rustix lack.
