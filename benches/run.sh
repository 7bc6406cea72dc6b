#!/bin/sh
# Measures dhow beside what a person would use instead, and writes benches/RESULTS.md. As root; nothing stays behind.
# usage: run.sh DIRECTORY-OF-PROGRAMS [runtime|run-container|build|transfer|layers]...
# DHOW_BENCH_RUNS=N sets how often the short commands run (40), DHOW_BENCH_OUT=DIR keeps hyperfine's own JSON there.
set -eu
programs=$(cd "${1:?usage: run.sh DIRECTORY-OF-PROGRAMS [TOPIC]...}" && pwd)
shift
benches=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "benches/run.sh: only root can run the peers on this footing; try: sudo $0" >&2; exit 1; }
export programs benches
PATH=$programs:$PATH

# The stores lie on a real file system, as they would in use: overlay works on it, and a sync has a price.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dhow-bench.XXXXXX")
results=${DHOW_BENCH_OUT:-$work/results}
mkdir -p "$results"
export work results
# What the peers put aside goes there too.
export TMPDIR="$work"
finish() {
    status=$?
    trap - EXIT INT TERM
    "$benches/clean-up.sh" || :
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

whole=
if [ $# = 0 ]; then
    whole=yes
    set -- runtime run-container build transfer layers
fi
failed=
for topic in "$@"; do
    "$benches/$topic.sh" || failed="$failed $topic"
done
"$benches/render.sh" >"$work/RESULTS.md"
if [ -n "$whole" ] && [ -z "$failed" ]; then
    cp "$work/RESULTS.md" "$benches/RESULTS.md"
    echo "written: benches/RESULTS.md"
else
    cat "$work/RESULTS.md"
fi
[ -z "$failed" ] || { echo "benches/run.sh: these did not end:$failed" >&2; exit 1; }
