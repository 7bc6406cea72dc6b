# Checks of dhow itself: an image from the tar of busybox, run with limits. Read by checks.sh.
# vm-modes: v2 v1
# shellcheck shell=sh

engine_imports_and_runs() {
    dhow import /vm/busybox.tar busybox
    holds "$(dhow run --rm --network none --hostname inside busybox hostname)" inside
    status=0
    dhow run --rm --network none busybox sh -c 'exit 7' || status=$?
    [ "$status" = 7 ] || fail "status $status"
    [ -z "$(find /sys/fs/cgroup -path '*dhow/*' -type d)" ] || fail "cgroups are left: $(find /sys/fs/cgroup -path '*dhow/*' -type d)"
    [ -z "$(pidof dhow-monitor)" ] || fail "a monitor is left"
    ! grep -q "$DHOW_STATE\|$DHOW_ROOT" /proc/mounts || fail "mounts are left: $(grep "$DHOW_STATE\|$DHOW_ROOT" /proc/mounts)"
}

engine_memory_limit_is_reported() {
    status=0
    dhow run --name hog --network none --memory 32m busybox tail /dev/zero >/dev/null || status=$?
    [ "$status" = 137 ] || fail "status $status"
    holds "$(dhow ps -a)" ', OOM)'
    dhow rm hog
}

engine_limits_are_in_the_cgroup() {
    said=$(dhow run --rm --network none --memory 64m --cpus 0.5 --pids-limit 33 busybox sh -c 'cd /sys/fs/cgroup
        cat memory.max cpu.max pids.max memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max 2>/dev/null; exit 0')
    for limit in 67108864 50000 33; do holds "$said" "$limit"; done
}

engine_write_rate_holds() {
    for limit in '' '--device-write-bps=/dev/vda:1536k'; do
        # shellcheck disable=SC2086 # an option or nothing
        said=$(dhow run --rm --network none $limit -v /data/files:/files busybox sh -c 'cat /proc/uptime
            dd if=/dev/zero of=/files/engine bs=256k count=24 oflag=direct conv=fsync; cat /proc/uptime')
        took=$(seconds_tenths "$said")
        echo "${limit:-unlimited}: 6 MiB took $took tenths of a second"
        if [ -n "$limit" ]; then [ "$took" -ge 33 ]; else [ "$took" -lt 20 ]; fi || fail "not so"
    done
}

engine_keeps_devices_out() {
    said=$(dhow run --rm --network none busybox sh -c "mknod /tmp/disk b ${disk%:*} ${disk#*:}; head -c 1 /tmp/disk; exit 0" 2>&1)
    holds "$said" 'not permitted'
}

engine_detaches_and_stops() {
    dhow run -d --name quiet --network none busybox sh -c 'trap "echo bye; exit 0" TERM; echo hello; while sleep 0.2; do :; done'
    sleep 1
    [ "$(pidof dhow-monitor | wc -w)" = 1 ] || fail "monitors: $(pidof dhow-monitor)"
    [ -z "$(pidof dhow-runtime)" ] || fail "a runtime stays resident"
    holds "$(dhow exec quiet hostname; dhow exec quiet echo inside)" inside
    dhow stop -t 5 quiet
    holds "$(dhow logs quiet)" hello
    holds "$(dhow logs quiet)" bye
    dhow rm quiet
    [ -z "$(find /sys/fs/cgroup -path '*dhow/*' -type d)" ] || fail "cgroups are left: $(find /sys/fs/cgroup -path '*dhow/*' -type d)"
    [ -z "$(pidof dhow-monitor)" ] || fail "a monitor is left"
}

engine_builds() {
    mkdir -p /data/context
    printf 'FROM busybox\nRUN echo built > /made && cat /proc/self/cgroup\nCMD ["cat", "/made"]\n' >/data/context/Dockerfile
    dhow build -t made /data/context
    holds "$(dhow run --rm --network none made)" built
}

check engine_imports_and_runs engine_memory_limit_is_reported engine_limits_are_in_the_cgroup engine_write_rate_holds engine_keeps_devices_out \
    engine_detaches_and_stops engine_builds
