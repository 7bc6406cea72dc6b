#!/bin/sh
# Runs every test of the workspace; at the end stands each one that failed, with what it said, and in the last line how many ran.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --release --workspace --no-fail-fast 2>&1 | tee "$log"
# The output of a failed test stands between `---- NAME stdout ----` and the list of names that closes its file's report.
awk '/^---- .* stdout ----$/ { shown = 1 } /^failures:$/ { shown = 0 } shown' "$log"
awk '/^test result:/ { passed += $4; failed += $6 } /^error: / { broken = 1 }
     END { printf "%d passed, %d failed\n", passed, failed; exit (failed || broken || !passed) ? 1 : 0 }' "$log"
