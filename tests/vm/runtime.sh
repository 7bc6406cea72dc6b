# Checks of dhow-runtime alone: a container, its limits, its life. Read by checks.sh.
# vm-modes: v2 v1
# shellcheck shell=sh

runtime_runs_and_gives_the_status() {
    holds "$(contain hello '' 'hostname; exit 0')" inside
    status=0
    contain seven '' 'exit 7' || status=$?
    [ "$status" = 7 ] || fail "status $status"
    [ -z "$(cgroup_directories seven)" ] || fail "a cgroup is left: $(cgroup_directories seven)"
}

runtime_own_cgroup_is_the_root_it_sees() {
    case $mode in
    v2) holds "$(contain own '' 'cat /proc/self/cgroup')" '0::/' ;;
    v1) holds "$(contain own '' 'cat /proc/self/cgroup')" ':memory:/' ;;
    esac
    ! contain own2 '' 'cat /proc/self/cgroup' | grep -q dhow-vm || fail "sees the path above"
}

runtime_memory_limit_kills() {
    said=$(contain memory '"memory": { "limit": 33554432 }' '
        tail /dev/zero >/dev/null
        echo "status $?"
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null
        exit 0')
    holds "$said" 'status 137'
    holds "$said" 33554432
    holds "$said" 'oom_kill 1'
}

runtime_cpu_quota_holds() {
    said=$(contain cpu '"cpu": { "quota": 25000, "period": 100000 }' '
        used() { sed -n "s/^usage_usec //p" /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct/cpuacct.usage; }
        before=$(used); read -r from rest </proc/uptime; end=$((${from%.*} + 5))
        while read -r to rest </proc/uptime; [ "${to%.*}" -lt "$end" ]; do :; done
        echo "$before $(used) $from $to"')
    # v1 counts in nanoseconds.
    echo "$said" | awk -v unit="$([ "$mode" = v1 ] && echo 1e9 || echo 1e6)" '{ share = ($2 - $1) / unit / ($4 - $3)
        print "share", share; exit (share > 0.1 && share < 0.35) ? 0 : 1 }' || fail "not a quarter: $said"
}

runtime_cpuset_holds() {
    [ "$(nproc)" = 2 ] || fail "the guest has $(nproc) processors"
    [ "$(contain cpuset '"cpu": { "cpus": "1" }' 'grep Cpus_allowed_list /proc/self/status' | tr -dc 0-9)" = 1 ]
}

runtime_pids_limit_holds() {
    said=$(contain pids '"pids": { "limit": 8 }' '
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done
        echo not reached' 2>&1 || :)
    holds "$said" "can't fork"
}

runtime_write_rate_holds() {
    # v1 knows whose a write is only when it does not go through the page cache.
    write='cat /proc/uptime; dd if=/dev/zero of=/var/www/FILE bs=256k count=24 conv=fsync oflag=direct 2>&1; cat /proc/uptime; exit 0'
    for limited in no yes; do
        limits=
        [ "$limited" = no ] || limits="\"blockIO\": { \"throttleWriteBpsDevice\": [{ \"major\": ${disk%:*}, \"minor\": ${disk#*:}, \"rate\": 1572864 }] }"
        said=$(contain "rate-$limited" "$limits" "$(echo "$write" | sed "s/FILE/$limited/")")
        took=$(seconds_tenths "$said")
        echo "limited: $limited, 6 MiB took $took tenths of a second"
        if [ "$limited" = yes ]; then [ "$took" -ge 33 ] && [ "$took" -le 80 ]; else [ "$took" -lt 20 ]; fi || fail "$said"
    done
    [ "$mode" = v2 ] || return 0
    # Through the page cache as well: the writeback of a file is charged to the container that made it.
    said=$(contain rate-cached "$limits" "$(echo "$write" | sed 's/ oflag=direct//; s/FILE/cached/')")
    took=$(seconds_tenths "$said")
    echo "through the page cache: 6 MiB took $took tenths of a second"
    [ "$took" -ge 33 ] || fail "$said"
}

runtime_device_rules_hold() {
    script="mknod /tmp/disk b ${disk%:*} ${disk#*:} && head -c 1 /tmp/disk >/dev/null && echo opened; echo x >/dev/null && echo null is allowed; exit 0"
    said=$(contain device-refused '"devices": [{ "allow": false, "access": "rwm" }]' "$script" 2>&1)
    holds "$said" 'not permitted'
    holds "$said" 'null is allowed'
    case $said in *opened*) fail "$said" ;; esac
    said=$(contain device-allowed "\"devices\": [{ \"allow\": false, \"access\": \"rwm\" }, { \"allow\": true, \"type\": \"b\", \"major\": ${disk%:*}, \"minor\": ${disk#*:}, \"access\": \"rm\" }]" \
        "$script; echo x >/tmp/disk && echo written; exit 0")
    holds "$said" opened
    case $said in *written*) fail "$said" ;; esac
}

runtime_exec_joins_the_cgroup() {
    detach joined '"pids": { "limit": 20 }' 'sleep 100'
    said=$(rt exec joined cat /proc/self/cgroup)
    rt exec joined true
    procs=$(cat "$(cgroup_directories joined | grep -E '^/sys/fs/cgroup/(pids/)?dhow-vm' | head -n 1)/cgroup.procs" | wc -l)
    rt kill joined KILL
    sleep 1
    rt delete joined
    ! echo "$said" | grep -q '\.\.' || fail "outside the container's cgroup: $said"
    [ "$procs" -ge 1 ] || fail "no process in the cgroup"
    [ -z "$(cgroup_directories joined)" ] || fail "a cgroup is left"
}

runtime_pause_freezes() {
    detach frozen '' 'while sleep 0.1; do echo tick >>/var/www/ticks; done'
    sleep 1
    rt pause frozen
    holds "$(rt state frozen)" paused
    before=$(wc -l </data/files/ticks)
    sleep 1
    after=$(wc -l </data/files/ticks)
    rt resume frozen
    sleep 1
    later=$(wc -l </data/files/ticks)
    rt delete --force frozen
    [ "$before" = "$after" ] || fail "ran on: $before, $after"
    [ "$after" != "$later" ] || fail "did not wake: $after"
    [ -z "$(cgroup_directories frozen)" ] || fail "a cgroup is left"
}

runtime_update_changes_limits() {
    detach updated '"memory": { "limit": 67108864 }' 'sleep 100'
    rt update --memory 33554432 --pids-limit 17 updated
    said=$(rt exec updated sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null; exit 0')
    rt delete --force updated
    holds "$said" 33554432
    holds "$said" 17
}

# v2 gives no controllers to cgroups below one with processes in it.
runtime_names_a_cgroup_with_processes_above() {
    [ "$mode" = v2 ] || return 0
    mkdir /sys/fs/cgroup/busy
    said=$(sh -c 'echo 0 >/sys/fs/cgroup/busy/cgroup.procs; sleep 100 >/dev/null 2>&1 & echo $!')
    bundle below '"memory": { "limit": 33554432 }' 'echo runs'
    sed -i 's|/dhow-vm/below|/busy/below|' /data/bundles/below/config.json
    status=0
    refused=$(rt run --bundle /data/bundles/below below 2>&1) || status=$?
    # A relative path is beside the own cgroup for the same reason.
    sed -i 's|/busy/below|beside|' /data/bundles/below/config.json
    beside=$(sh -c 'echo 0 >/sys/fs/cgroup/busy/cgroup.procs; exec "$@"' sh "$runtime" --root /run/runtime run --bundle /data/bundles/below beside)
    kill "$said"
    [ "$status" = 1 ] || fail "status $status: $refused"
    holds "$refused" 'has processes in it'
    holds "$refused" /sys/fs/cgroup/busy
    holds "$beside" runs
    [ ! -e /sys/fs/cgroup/busy/below ] || fail "a cgroup is left"
}

# From here on: what needs CAP_SYS_RESOURCE.
runtime_raises_rlimits() {
    ulimit -n 1024
    rlimits='{ "type": "RLIMIT_NOFILE", "soft": 20000, "hard": 30000 }'
    [ "$(contain rlimit '' 'ulimit -Sn; ulimit -Hn' | tr '\n' ' ')" = '20000 30000 ' ]
}

# Inside, root has no such power: whoever is outside has to raise them.
runtime_raises_rlimits_of_a_user_namespace() {
    ulimit -n 1024
    ids='[{ "containerID": 0, "hostID": 0, "size": 65536 }]'
    linux="\"uidMappings\": $ids, \"gidMappings\": $ids,"
    namespaces='{ "type": "user" },'
    rlimits='{ "type": "RLIMIT_NOFILE", "soft": 20000, "hard": 30000 }'
    [ "$(contain rlimit-user '' 'ulimit -Sn; ulimit -Hn' | tr '\n' ' ')" = '20000 30000 ' ]
    detach rlimit-entered '' 'sleep 1000'
    [ "$(rt exec rlimit-entered sh -c 'ulimit -Sn; ulimit -Hn' | tr '\n' ' ')" = '20000 30000 ' ]
    rt delete --force rlimit-entered
}

runtime_lowers_oom_score() {
    oom=-500
    [ "$(contain oom '' 'cat /proc/self/oom_score_adj')" = -500 ]
}

runtime_gives_every_capability() {
    capabilities=$every_capability
    holds "$(contain powers '' 'grep CapEff /proc/self/status')" 000001ffffffffff
}

check runtime_runs_and_gives_the_status runtime_own_cgroup_is_the_root_it_sees runtime_memory_limit_kills runtime_cpu_quota_holds runtime_cpuset_holds \
    runtime_pids_limit_holds runtime_write_rate_holds runtime_device_rules_hold runtime_exec_joins_the_cgroup runtime_pause_freezes \
    runtime_update_changes_limits runtime_names_a_cgroup_with_processes_above runtime_raises_rlimits \
    runtime_raises_rlimits_of_a_user_namespace runtime_lowers_oom_score runtime_gives_every_capability
