# Checks of limits that this kind of guest alone can show, of statistics, and of cgroups that a container divides. Read by checks.sh.
# vm-modes: v2 v1
# vm-modules: bfq
# shellcheck shell=sh

# The file of a container's cgroup. usage: container_file NAME CONTROLLER V2-FILE V1-FILE
container_file() {
    case $mode in
    v2) echo "/sys/fs/cgroup/dhow-vm/$1/$3" ;;
    v1) echo "/sys/fs/cgroup/$2/dhow-vm/$1/$4" ;;
    esac
}

cgroups_shares_and_weights() {
    detach weights '"cpu": { "shares": 1024, "burst": 1000, "quota": 20000, "period": 50000 }' 'sleep 100'
    case $mode in
    v2)
        # The default of v1 is the default of v2.
        [ "$(cat "$(container_file weights cpu cpu.weight)")" = 100 ] || fail "$(cat "$(container_file weights cpu cpu.weight)")"
        [ "$(cat "$(container_file weights cpu cpu.max)")" = '20000 50000' ]
        [ "$(cat "$(container_file weights cpu cpu.max.burst)")" = 1000 ]
        ;;
    v1)
        [ "$(cat "$(container_file weights cpu '' cpu.shares)")" = 1024 ]
        [ "$(cat "$(container_file weights cpu '' cpu.cfs_burst_us)")" = 1000 ]
        ;;
    esac
    rt delete --force weights
    detach idle '"cpu": { "idle": 1, "shares": 500 }' 'sleep 100'
    [ "$(cat "$(container_file idle cpu cpu.idle cpu.idle)")" = 1 ] || fail "not idle"
    rt delete --force idle
}

cgroups_weight_of_block_devices() {
    echo bfq >"/sys/block/vda/queue/scheduler" || fail "no bfq"
    detach heavy '"blockIO": { "weight": 300 }' 'sleep 100'
    said=$(cat "$(container_file heavy blkio io.bfq.weight blkio.bfq.weight)")
    rt delete --force heavy
    # One device's own, beside that of the others.
    detach heavier "\"blockIO\": { \"weight\": 200, \"weightDevice\": [{ \"major\": ${disk%:*}, \"minor\": ${disk#*:}, \"weight\": 700 }] }" 'sleep 100'
    own=$(cat "$(container_file heavier blkio io.bfq.weight blkio.bfq.weight_device)")
    others=$(cat "$(container_file heavier blkio io.bfq.weight blkio.bfq.weight)")
    rt delete --force heavier
    echo none >"/sys/block/vda/queue/scheduler"
    holds "$said" 300
    holds "$own" "$disk 700"
    holds "$others" 200
}

# Kernels since Linux 5.0 have no scheduler with weights of leaves.
cgroups_leaf_weight_is_named() {
    for limit in '"leafWeight": 300' "\"weightDevice\": [{ \"major\": ${disk%:*}, \"minor\": ${disk#*:}, \"leafWeight\": 300 }]"; do
        status=0
        said=$(contain leafy "\"blockIO\": { $limit }" 'echo begun' 2>&1) || status=$?
        [ "$status" = 1 ] || fail "$limit: status $status: $said"
        holds "$said" 'weight'
        ! echo "$said" | grep begun || fail "$said"
        [ -z "$(cgroup_directories leafy)" ] || fail "$limit: a cgroup is left"
    done
}

cgroups_memory_swap_and_reservation() {
    detach swap '"memory": { "limit": 33554432, "swap": 67108864, "reservation": 16777216 }' 'sleep 100'
    case $mode in
    v2) [ "$(cat "$(container_file swap memory memory.swap.max)") $(cat "$(container_file swap memory memory.low)")" = '33554432 16777216' ] || fail "$(cat "$(container_file swap memory memory.swap.max)")" ;;
    v1) [ "$(cat "$(container_file swap memory '' memory.memsw.limit_in_bytes)") $(cat "$(container_file swap memory '' memory.soft_limit_in_bytes)")" = '67108864 16777216' ] ;;
    esac
    # Up and down, which v1 takes only in the right order.
    for limit in 134217728 16777216; do
        rt update --memory "$limit" --memory-swap "$limit" swap
        [ "$(cat "$(container_file swap memory memory.max memory.limit_in_bytes)")" = "$limit" ] || fail "not $limit"
    done
    rt delete --force swap
}

# What one kind has and the other has no way to say: the specification makes it an error.
cgroups_settings_of_the_other_kind_are_refused() {
    case $mode in
    v2) list='"memory": { "swappiness": 10 }
"memory": { "disableOOMKiller": true }
"cpu": { "realtimeRuntime": 1000 }
"network": { "classID": 1048577 }
"network": { "priorities": [{ "name": "lo", "priority": 5 }] }' ;;
    v1) list='"unified": { "memory.high": "1000000" }' ;;
    esac
    echo "$list" | while read -r limit; do
        status=0
        said=$(contain refused "$limit" true 2>&1) || status=$?
        [ "$status" = 1 ] || fail "$limit: status $status: $said"
        [ -z "$(cgroup_directories refused)" ] || fail "$limit: a cgroup is left"
    done
}

cgroups_network_class_and_priority() {
    [ "$mode" = v1 ] || return 0
    detach marked '"network": { "classID": 1048577, "priorities": [{ "name": "lo", "priority": 5 }] }' 'sleep 100'
    class=$(cat /sys/fs/cgroup/net_cls/dhow-vm/marked/net_cls.classid)
    priorities=$(cat /sys/fs/cgroup/net_prio/dhow-vm/marked/net_prio.ifpriomap)
    rt delete --force marked
    [ "$class" = 1048577 ] || fail "class $class"
    holds "$priorities" 'lo 5'
}

cgroups_swappiness_and_oom_control() {
    [ "$mode" = v1 ] || return 0
    detach swappy '"memory": { "limit": 33554432, "swappiness": 10, "disableOOMKiller": true }' 'sleep 100'
    holds "$(cat "$(container_file swappy memory '' memory.swappiness)")" 10
    holds "$(cat "$(container_file swappy memory '' memory.oom_control)")" 'oom_kill_disable 1'
    rt delete --force swappy
}

cgroups_unified_is_written() {
    [ "$mode" = v2 ] || return 0
    detach unified '"unified": { "memory.high": "50000000", "pids.max": "44", "io.weight": "default 50", "cgroup.max.depth": "3" }' 'sleep 100'
    cd /sys/fs/cgroup/dhow-vm/unified
    said=$(cat memory.high pids.max io.weight cgroup.max.depth | tr '\n' ' ')
    cd /
    rt delete --force unified
    holds "$said" '44 default 50 3'
}

cgroups_hugepages_are_limited() {
    size=$(ls /sys/kernel/mm/hugepages | sed -n 's/hugepages-2048kB/2MB/p')
    [ -n "$size" ] || return 0
    detach huge '"hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }]' 'sleep 100'
    for file in "$(container_file huge hugetlb hugetlb.2MB.max hugetlb.2MB.limit_in_bytes)" "$(container_file huge hugetlb hugetlb.2MB.rsvd.max hugetlb.2MB.rsvd.limit_in_bytes)"; do
        [ "$(cat "$file")" = 4194304 ] || fail "$file is $(cat "$file")"
    done
    holds "$(rt events --stats huge)" '"2MB"'
    rt delete --force huge
}

cgroups_statistics_are_told() {
    detach told '"memory": { "limit": 67108864 }, "pids": { "limit": 30 }' 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; dd if=/dev/zero of=/var/www/told bs=64k count=16 oflag=direct; sleep 100'
    sleep 4
    said=$(rt events --stats told)
    rt delete --force told
    for part in '"type":"stats"' '"id":"told"' '"limit":67108864' '"limit":30' '"total":' ioServiceBytesRecursive '"raw"'; do holds "$said" "$part"; done
    [ "$mode" != v2 ] || holds "$said" '"psi"'
}

cgroups_killing_for_memory_is_told() {
    detach starved '"memory": { "limit": 33554432, "swap": 33554432 }' 'sleep 2; for i in 1 2; do tail /dev/zero; done >/dev/null 2>&1; sleep 1'
    rt events --interval 60s starved >/tmp/events 2>&1 || :
    rt delete --force starved
    holds "$(cat /tmp/events)" '"type":"oom"'
}

# A container with a cgroup of its own that it has divided: nobody can be at its top on v2.
cgroups_exec_into_a_divided_cgroup() {
    capabilities=$every_capability
    detach divided '' 'mount -o remount,rw /sys/fs/cgroup 2>/dev/null; cd /sys/fs/cgroup; mkdir inner beside; echo 0 >inner/cgroup.procs; echo +pids +memory >cgroup.subtree_control; exec sleep 100'
    sed -i 's/"relatime", "ro"/"relatime"/' /data/bundles/divided/config.json
    rt delete --force divided
    rt run -d --bundle /data/bundles/divided divided >/dev/null </dev/null 2>&1
    sleep 1
    case $mode in
    v2)
        # A cgroup namespace shows the container's own as the root.
        holds "$(rt exec divided cat /proc/self/cgroup)" 0::/inner
        holds "$(rt exec --cgroup beside divided cat /proc/self/cgroup)" 0::/beside
        status=0
        said=$(rt exec --cgroup ../.. divided true 2>&1) || status=$?
        ;;
    v1)
        mkdir /sys/fs/cgroup/pids/dhow-vm/divided/sub
        said=$(rt exec --cgroup pids:sub divided cat /proc/self/cgroup)
        holds "$said" pids:/sub
        holds "$said" memory:/
        status=0
        said=$(rt exec --cgroup nonsense:sub divided true 2>&1) || status=$?
        ;;
    esac
    rt delete --force divided
    [ "$status" = 255 ] || fail "status $status: $said"
    [ -z "$(cgroup_directories divided)" ] || fail "left: $(cgroup_directories divided)"
}

# A cgroup with threads in it has no place for what needs a whole process.
cgroups_threaded_above_is_refused() {
    [ "$mode" = v2 ] || return 0
    mkdir -p /sys/fs/cgroup/threads/part
    echo threaded >/sys/fs/cgroup/threads/part/cgroup.type
    cgroup=/threads/below
    status=0
    said=$(contain threaded '"memory": { "limit": 33554432 }' true 2>&1) || status=$?
    rmdir /sys/fs/cgroup/threads/part
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" /sys/fs/cgroup/threads
    [ ! -e /sys/fs/cgroup/threads/below ] || fail "a cgroup is left"
    rmdir /sys/fs/cgroup/threads
}

# Cache and memory bandwidth: the emulated processor has neither.
cgroups_resctrl_is_named_where_it_is_missing() {
    ! mount -t resctrl resctrl /sys/fs/resctrl 2>/dev/null || return 0
    status=0
    said=$(linux='"intelRdt": { "closID": "one" },' contain rdt '' true 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" resctrl
}

check cgroups_shares_and_weights cgroups_weight_of_block_devices cgroups_leaf_weight_is_named cgroups_memory_swap_and_reservation cgroups_settings_of_the_other_kind_are_refused \
    cgroups_network_class_and_priority cgroups_swappiness_and_oom_control cgroups_unified_is_written cgroups_hugepages_are_limited \
    cgroups_statistics_are_told cgroups_killing_for_memory_is_told cgroups_exec_into_a_divided_cgroup cgroups_threaded_above_is_refused \
    cgroups_resctrl_is_named_where_it_is_missing
