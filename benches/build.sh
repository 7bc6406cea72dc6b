#!/bin/sh
# A Dockerfile of twelve RUN lines: with no step cached, and with nothing changed.
. "$benches/measure.sh"
. "$benches/images.sh"
mkdir -p "$work/context"
{
    echo "FROM $image"
    for step in $(seq 12); do echo "RUN echo $step > /step-$step"; done
    echo 'CMD ["cat", "/step-12"]'
} >"$work/context/Dockerfile"
dhow import "$(busybox_tar)" $image >/dev/null || :
# buildah's own root file systems come from podman's import into the same store.
$podman import --quiet "$(busybox_tar)" $image >/dev/null
bud="$buildah bud --runtime $(command -v runc) --isolation oci --network host --layers --pull-never --quiet"

table build-cold '`dhow build` of twelve RUN lines, no step cached, beside `buildah bud`' 8
preparation dhow <<END
dhow rmi -f localhost/bench-cold >/dev/null 2>&1 || :
END
row dhow "dhow build --quiet --no-cache -t localhost/bench-cold $work/context"
preparation buildah <<END
$buildah rmi -f localhost/bench-cold >/dev/null 2>&1 || :
END
row buildah "$bud --no-cache -t localhost/bench-cold $work/context"
before=
measure

dhow build --quiet -t localhost/bench-unchanged "$work/context" >/dev/null || :
$bud -t localhost/bench-unchanged "$work/context" >/dev/null
table build-unchanged '`dhow build` of the same file with nothing changed' "${DHOW_BENCH_RUNS:-40}"
row dhow "dhow build --quiet -t localhost/bench-unchanged $work/context"
row buildah "$bud -t localhost/bench-unchanged $work/context"
measure
