//! Pods and containers as people know them.
