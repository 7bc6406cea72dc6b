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
    # runc's example asks for a terminal and for a user's number of open files, and has no filter of system calls.
    jq '.process.terminal = false | .process.args = ["true"] | .linux.seccomp = {
        defaultAction: "SCMP_ACT_ALLOW",
        architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        syscalls: [
            {action: "SCMP_ACT_ERRNO", names: ["acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module",
                "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "get_mempolicy", "init_module", "ioperm",
                "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mbind", "mount", "mount_setattr",
                "move_mount", "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open",
                "personality", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "query_module", "quotactl", "reboot",
                "request_key", "set_mempolicy", "setns", "settimeofday", "stime", "swapoff", "swapon", "sysfs", "umount", "umount2",
                "unshare", "uselib", "userfaultfd", "ustat", "vm86", "vm86old"]},
            {action: "SCMP_ACT_ERRNO", names: ["clone"], args: [{index: 0, value: 2114060288, valueTwo: 268435456, op: "SCMP_CMP_MASKED_EQ"}]}
        ]}' "$work/bundle/config.json" >"$work/bundle/config.new"
    mv "$work/bundle/config.new" "$work/bundle/config.json"
}
