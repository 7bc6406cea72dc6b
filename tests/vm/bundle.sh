# Bundles of busybox, with limits written into their config.json, and the runtime's commands with runc's flags. Read by checks.sh.
# shellcheck shell=sh
runtime=$(sed -n 's/.*dhow\.runtime=\([^ ]*\).*/\1/p' /proc/cmdline)
runtime=${runtime:-dhow-runtime}
mkdir -p /data/rootfs /data/files /data/bundles
tar -xf /vm/busybox.tar -C /data/rootfs
disk=$(cat /sys/block/vda/dev)

every_capability=$(for name in CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE \
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE \
    SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM \
    BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE; do printf '"CAP_%s",' "$name"; done | sed 's/,$//')

# Writes the bundle NAME whose container runs SCRIPT with the resources of RESOURCES (JSON).
# Read besides: capabilities, rlimits (JSON lists), oom (a number), cgroup (the cgroupsPath), process and linux (JSON members, with a
# comma after each), namespaces (JSON, likewise).
bundle() {
    mkdir -p "/data/bundles/$1"
    printf '%s\n' "$3" >"/data/rootfs/$1.sh"
    capabilities=${capabilities:-'"CAP_MKNOD","CAP_KILL","CAP_DAC_OVERRIDE"'}
    cat >"/data/bundles/$1/config.json" <<END
{ "ociVersion": "1.0.2",
  "process": { ${process:-}"user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "/$1.sh"], "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true,
    "capabilities": { "bounding": [$capabilities], "effective": [$capabilities], "permitted": [$capabilities] },
    "rlimits": [${rlimits:-}], "oomScoreAdj": ${oom:-0} },
  "root": { "path": "/data/rootfs" },
  "hostname": "inside",
  "mounts": [
    { "destination": "/proc", "type": "proc", "source": "proc" },
    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] },
    { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
    { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
    { "destination": "/var/www", "type": "bind", "source": "/data/files", "options": ["rbind", "rw"] } ],
  "linux": { ${linux:-}"cgroupsPath": "${cgroup-/dhow-vm/$1}", "resources": { $2 },
    "namespaces": [${namespaces:-}{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" }, { "type": "network" }, { "type": "cgroup" }] } }
END
}

rt() { "$runtime" --root /run/runtime "$@"; }

# bundle() and run, in the foreground.
contain() {
    bundle "$@"
    rt run --bundle "/data/bundles/$1" "$1"
}

# bundle() and run, in the background.
detach() {
    bundle "$@"
    rt run -d --bundle "/data/bundles/$1" "$1" >/dev/null </dev/null 2>&1
}

cgroup_directories() { find /sys/fs/cgroup -type d -path "*dhow-vm/$1*"; }

# The time between the first and the last line of /proc/uptime in a text, in tenths of a second.
seconds_tenths() {
    echo "$1" | awk 'NF == 2 && $1 ~ /^[0-9.]+$/ { if (start == "") start = $1; end = $1 } END { printf "%d", (end - start) * 10 }'
}
