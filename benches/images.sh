# Read by the topics: how the peers are called, and the small image that everybody runs.
# shellcheck shell=sh
export DHOW_ROOT="$work/dhow" DHOW_STATE="$work/dhow-state"
# Flags by which podman and buildah keep to the place of the run, use cgroups without systemd, and ask for no right that a root in a
# virtual machine may lack.
podman="podman --root $work/podman --runroot $work/podman-run --tmpdir $work/podman-tmp --cgroup-manager cgroupfs --events-backend file --runtime $(command -v runc)"
podman_run="--ulimit nofile=1024:1024 --ulimit nproc=1000:1000"
buildah="buildah --root $work/podman --runroot $work/podman-run"
image=localhost/busybox

busybox_tar() {
    [ -f "$work/busybox.tar" ] || "$benches/../scripts/busybox-rootfs.sh" "$work/busybox.tar"
    echo "$work/busybox.tar"
}

# A bundle that runs `true`, as `runc spec` makes it, for every runtime alike.
bundle() {
    [ ! -d "$work/bundle" ] || return 0
    mkdir -p "$work/bundle/rootfs"
    tar -xf "$(busybox_tar)" -C "$work/bundle/rootfs"
    (cd "$work/bundle" && runc spec)
    # runc's example asks for a terminal and for a user's number of open files.
    jq '.process.terminal = false | .process.args = ["true"]' "$work/bundle/config.json" >"$work/bundle/config.new"
    mv "$work/bundle/config.new" "$work/bundle/config.json"
}
