#!/bin/sh
# Runs every test of the workspace and says in the last line how many ran.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --release --workspace --no-fail-fast 2>&1 | tee "$log"
awk '/^test result:/ { passed += $4; failed += $6 } /^error: / { broken = 1 }
     END { printf "%d passed, %d failed\n", passed, failed; exit (failed || broken || !passed) ? 1 : 0 }' "$log"
