#!/bin/sh
# The runtime alone: one bundle, from nothing to the end of its process.
. "$benches/measure.sh"
. "$benches/images.sh"
bundle
table runtime 'dhow-runtime beside runc and crun, the same bundle' "${DHOW_BENCH_RUNS:-40}"
row dhow-runtime "dhow-runtime --root $work/dhow-runtime run --bundle $work/bundle bench"
row runc "runc --root $work/runc run --bundle $work/bundle bench"
inside=$benches/without-unified.sh
row crun "crun --root $work/crun run --bundle $work/bundle bench"
inside=
# What starting any program costs here, hyperfine's own share in it.
row floor "$(command -v busybox) true"
measure
