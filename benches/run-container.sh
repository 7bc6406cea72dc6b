#!/bin/sh
# A whole container: image in the store, name, root file system, runtime, monitor, and everything removed again.
. "$benches/measure.sh"
. "$benches/images.sh"
bundle
dhow import "$(busybox_tar)" $image >/dev/null || :
$podman import --quiet "$(busybox_tar)" $image >/dev/null
table run-container 'A whole `dhow run` beside `podman run`, and beside a bare `runc run`, which has no image, no store and no monitor' "${DHOW_BENCH_RUNS:-40}"
row dhow "dhow run --rm --network none $image true"
row podman "$podman run $podman_run --rm --network none $image true"
row runc "runc --root $work/runc run --bundle $work/bundle bench"
measure
