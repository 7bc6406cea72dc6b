# Checks of the systemd driver: scopes, slices, properties, and what systemd does with them later. Read by checks.sh.
# vm-modes: systemd systemd-v1
# shellcheck shell=sh

# The runtime with systemd's cgroups.
st() { rt --systemd-cgroup "$@"; }

# bundle() with a path for systemd, and run, in the background: NAME is in the scope dhow-NAME.scope of test-inner.slice.
scope() {
    cgroup=test-inner.slice:dhow:$1
    bundle "$@"
    st run -d --bundle "/data/bundles/$1" "$1" >/dev/null </dev/null 2>/tmp/scope.err || fail "$(cat /tmp/scope.err)"
}

pid_of() { rt state "$1" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }

show() { systemctl show -p "$2" --value "dhow-$1.scope"; }

# A property's value. usage: shows NAME PROPERTY VALUE
shows() {
    value=$(show "$1" "$2")
    [ "$value" = "$3" ] || fail "$2 is '$value' and not '$3'"
}

scope_directories() { find /sys/fs/cgroup -type d -path "*/test-inner.slice/dhow-$1.scope"; }

# The directory of a controller: the only one on v2.
scope_file() {
    case $mode in
    systemd) echo "/sys/fs/cgroup/test.slice/test-inner.slice/dhow-$1.scope/$3" ;;
    *) echo "/sys/fs/cgroup/$2/test.slice/test-inner.slice/dhow-$1.scope/$4" ;;
    esac
}

# usage: file_holds NAME CONTROLLER V2-FILE V1-FILE VALUE
file_holds() {
    value=$(cat "$(scope_file "$@")")
    [ "$value" = "$5" ] || fail "$(scope_file "$@") is '$value' and not '$5'"
}

systemd_is_there() {
    systemctl --version | head -n 1
    status=$(systemctl is-system-running) || :
    echo "$status"
    case $mode in
    systemd) [ -e /sys/fs/cgroup/cgroup.controllers ] ;;
    systemd-v1) [ -e /sys/fs/cgroup/memory/cgroup.procs ] ;;
    esac
}

systemd_makes_a_scope_in_its_slice() {
    scope one '' 'exec sleep 100'
    holds "$(cat "/proc/$(pid_of one)/cgroup")" /test.slice/test-inner.slice/dhow-one.scope
    shows one ActiveState active
    shows one Slice test-inner.slice
    shows one Delegate yes
    [ -n "$(scope_directories one)" ] || fail "no directory"
    # Only the container's process is in it: what held the scope at first is gone.
    [ "$(wc -l <"$(scope_file one pids cgroup.procs cgroup.procs)")" = 1 ] || fail "$(cat "$(scope_file one pids cgroup.procs cgroup.procs)")"
    st exec one true
    st exec -d one sleep 50
    [ "$(wc -l <"$(scope_file one pids cgroup.procs cgroup.procs)")" = 2 ] || fail "exec is not in the scope"
    rt delete --force one
    [ -z "$(scope_directories one)" ] || fail "left: $(scope_directories one)"
    [ "$(show one LoadState)" = not-found ] || fail "the unit is left: $(show one LoadState)"
}

systemd_ends_the_scope_with_the_container() {
    scope short '' 'true'
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ "$(rt state short | grep -c stopped)" = 0 ] || break; sleep 0.5; done
    rt delete short
    [ -z "$(scope_directories short)" ] || fail "left: $(scope_directories short)"
    cgroup=test-inner.slice:dhow:front
    bundle front '' 'echo in front; exit 7'
    status=0
    said=$(st run --bundle /data/bundles/front front) || status=$?
    [ "$status" = 7 ] || fail "status $status"
    holds "$said" 'in front'
    [ -z "$(scope_directories front)" ] || fail "left: $(scope_directories front)"
    # The same name again.
    said=$(st run --bundle /data/bundles/front front || :)
    holds "$said" 'in front'
}

systemd_default_is_a_scope_in_the_system_slice() {
    cgroup=
    bundle nameless '' 'sleep 100'
    st run -d --bundle /data/bundles/nameless nameless >/dev/null </dev/null 2>&1
    seen=$(cat "/proc/$(pid_of nameless)/cgroup")
    rt delete --force nameless
    holds "$seen" /system.slice/
    holds "$seen" -nameless.scope
}

systemd_knows_the_limits() {
    scope limits '"memory": { "limit": 67108864, "swap": 100663296, "reservation": 33554432 }, "pids": { "limit": 77 },
        "cpu": { "shares": 2048, "quota": 25000, "period": 50000, "cpus": "0-1" }' 'sleep 100'
    shows limits TasksMax 77
    shows limits CPUQuotaPerSecUSec 500ms
    shows limits CPUQuotaPeriodUSec 50ms
    file_holds limits pids pids.max pids.max 77
    case $mode in
    systemd)
        shows limits MemoryMax 67108864
        shows limits MemoryLow 33554432
        shows limits MemorySwapMax 33554432
        shows limits AllowedCPUs 0-1
        file_holds limits cpu cpu.max '' '25000 50000'
        shows limits CPUWeight "$(cat "$(scope_file limits cpu cpu.weight)")"
        ;;
    systemd-v1)
        shows limits MemoryLimit 67108864
        shows limits CPUShares 2048
        file_holds limits cpu '' cpu.cfs_quota_us 25000
        file_holds limits memory '' memory.soft_limit_in_bytes 33554432
        ;;
    esac
    file_holds limits memory memory.max memory.limit_in_bytes 67108864
    # systemd writes all that it knows again.
    systemctl daemon-reload
    systemctl set-property --runtime dhow-limits.scope CPUAccounting=yes
    file_holds limits memory memory.max memory.limit_in_bytes 67108864
    file_holds limits pids pids.max pids.max 77
    rt delete --force limits
}

systemd_block_io_limits_are_properties() {
    [ "$mode" = systemd ] || return 0
    scope block "\"blockIO\": { \"throttleWriteBpsDevice\": [{ \"major\": ${disk%:*}, \"minor\": ${disk#*:}, \"rate\": 1572864 }] }" 'sleep 100'
    holds "$(show block IOWriteBandwidthMax)" 1572864
    holds "$(cat "$(scope_file block io io.max)")" wbps=1572864
    rt delete --force block
}

systemd_device_rules_hold() {
    scope devices "\"devices\": [{ \"allow\": false, \"access\": \"rwm\" }, { \"allow\": true, \"type\": \"b\", \"major\": ${disk%:*}, \"minor\": ${disk#*:}, \"access\": \"rm\" }]" 'sleep 100'
    shows devices DevicePolicy strict
    holds "$(show devices DeviceAllow)" "/dev/block/$disk"
    for _ in before after; do
        said=$(rt exec devices sh -c "rm -f /tmp/disk; mknod /tmp/disk b ${disk%:*} ${disk#*:} && head -c 1 /tmp/disk >/dev/null && echo opened; echo x >/tmp/disk && echo written
            mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg && echo kmsg; rm -f /tmp/kmsg; echo x >/dev/null && echo null; exit 0" 2>&1)
        holds "$said" opened
        holds "$said" null
        case $said in *written* | *kmsg$*) fail "$said" ;; esac
        systemctl daemon-reload
        systemctl set-property --runtime dhow-devices.scope CPUAccounting=yes
    done
    rt delete --force devices
}

systemd_takes_annotations_for_properties() {
    cgroup=test-inner.slice:dhow:noted
    bundle noted '' 'sleep 100'
    sed -i 's|"hostname"|"annotations": { "org.systemd.property.TimeoutStopSec": "uint64 77", "org.systemd.property.CollectMode": "'"'inactive-or-failed'"'", "other": "x" }, "hostname"|' /data/bundles/noted/config.json
    st run -d --bundle /data/bundles/noted noted >/dev/null </dev/null 2>/tmp/noted.err || fail "$(cat /tmp/noted.err)"
    shows noted TimeoutStopUSec '1min 17s'
    shows noted CollectMode inactive-or-failed
    rt delete --force noted
    sed -i 's|uint64 77|covfefe|' /data/bundles/noted/config.json
    said=$(st run --bundle /data/bundles/noted noted 2>&1 || :)
    holds "$said" TimeoutStopSec
}

systemd_update_reaches_properties_and_files() {
    scope updated '"memory": { "limit": 67108864 }, "pids": { "limit": 50 }' 'sleep 100'
    rt update --memory 33554432 --pids-limit 17 --cpu-quota 20000 --cpu-period 100000 --cpu-share 512 updated
    shows updated TasksMax 17
    shows updated CPUQuotaPerSecUSec 200ms
    file_holds updated pids pids.max pids.max 17
    file_holds updated memory memory.max memory.limit_in_bytes 33554432
    case $mode in
    systemd) shows updated MemoryMax 33554432 ;;
    *) shows updated CPUShares 512 ;;
    esac
    rt delete --force updated
}

systemd_pauses_and_resumes() {
    scope paused '' 'while sleep 0.1; do echo tick >>/var/www/scope-ticks; done'
    sleep 1
    rt pause paused
    before=$(wc -l </data/files/scope-ticks)
    sleep 1
    after=$(wc -l </data/files/scope-ticks)
    rt resume paused
    rt delete --force paused
    [ "$before" = "$after" ] || fail "ran on: $before, $after"
}

systemd_refuses_wrong_paths_and_taken_names() {
    for path in /absolute relative a.slice:b bad:dhow:x; do
        cgroup=$path
        bundle wrong '' true
        status=0
        said=$(st run --bundle /data/bundles/wrong wrong 2>&1) || status=$?
        [ "$status" = 1 ] || fail "$path: status $status: $said"
    done
    scope taken '' 'sleep 100'
    cgroup=test-inner.slice:dhow:taken
    bundle thief '' 'true'
    status=0
    said=$(st run --bundle /data/bundles/thief thief 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$(rt state taken)" running
    shows taken ActiveState active
    rt delete --force taken
}

# A user with a session of its own: systemd --user has a part of the v2 tree.
systemd_serves_a_user() {
    [ "$mode" = systemd ] || return 0
    id person >/dev/null 2>&1 || useradd -m -u 1000 person
    loginctl enable-linger person
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ -S /run/user/1000/bus ] && break; sleep 1; done
    [ -S /run/user/1000/bus ] || fail "no bus of the user's: $(systemctl status user@1000.service)"
    linux='"uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }], "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],'
    namespaces='{ "type": "user" },'
    cgroup=user.slice:dhow:own
    capabilities='"CAP_KILL"'
    bundle own '"memory": { "limit": 67108864 }, "pids": { "limit": 33 }' 'sleep 100'
    as_person() {
        setpriv --reuid=1000 --regid=1000 --init-groups env HOME=/home/person XDG_RUNTIME_DIR=/run/user/1000 \
            DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus "$@"
    }
    # Once from within the user's own part, once from outside, where the user may not move processes by himself.
    for from in 'systemd-run --user --scope -q -p Delegate=yes' ''; do
        # shellcheck disable=SC2086 # $from is words
        as_person $from "$runtime" --root /run/user/1000/runtime --systemd-cgroup run -d --bundle /data/bundles/own own >/dev/null </dev/null 2>/tmp/own.err ||
            fail "from '$from': $(cat /tmp/own.err)"
        pid=$(as_person "$runtime" --root /run/user/1000/runtime state own | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
        seen=$(cat "/proc/$pid/cgroup")
        holds "$seen" /user.slice/user-1000.slice/user@1000.service/user.slice/dhow-own.scope
        [ "$(cat "/sys/fs/cgroup${seen#0::}/memory.max")" = 67108864 ] || fail "the limit is $(cat "/sys/fs/cgroup${seen#0::}/memory.max")"
        [ "$(as_person systemctl --user show -p TasksMax --value dhow-own.scope)" = 33 ] || fail "TasksMax"
        as_person "$runtime" --root /run/user/1000/runtime exec own cat /proc/self/cgroup >/tmp/own.exec 2>&1 || fail "exec: $(cat /tmp/own.exec)"
        as_person "$runtime" --root /run/user/1000/runtime delete --force own || fail "delete"
        [ ! -e "/sys/fs/cgroup${seen#0::}" ] || fail "the cgroup is left"
    done
}

check systemd_is_there systemd_makes_a_scope_in_its_slice systemd_ends_the_scope_with_the_container systemd_default_is_a_scope_in_the_system_slice \
    systemd_knows_the_limits systemd_block_io_limits_are_properties systemd_device_rules_hold systemd_takes_annotations_for_properties \
    systemd_update_reaches_properties_and_files systemd_pauses_and_resumes systemd_refuses_wrong_paths_and_taken_names systemd_serves_a_user
