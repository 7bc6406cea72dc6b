//! What monitor, shim and engine share of watching processes.
