//! The one small process beside a running pod.

fn main() {}
