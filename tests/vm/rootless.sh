# vm-modes: v2 v1
# vm-programs: setpriv newuidmap newgidmap
# A user without privileges: limits in a cgroup that was given to him, and none without. Read by checks.sh.
# shellcheck shell=sh
stranger=70001
echo "stranger:x:$stranger:$stranger::/:/bin/sh" >>/etc/passwd
echo "stranger:x:$stranger:" >>/etc/group
echo "stranger:2000000:65536" | tee /etc/subuid >/etc/subgid
chmod u+s /bin/newuidmap /bin/newgidmap
cp -a /data/rootfs /data/strangers
chown -R "$stranger:$stranger" /data/strangers
mkdir -p /run/stranger
chown "$stranger:$stranger" /run/stranger

# The hierarchies' own directories.
hierarchies() {
    case $mode in
    v2) echo /sys/fs/cgroup ;;
    *) find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d ;;
    esac
}

# Gives him a directory NAME in each hierarchy, and in it `own` to begin in.
delegate() {
    for hierarchy in $(hierarchies); do
        if [ "$mode" = v2 ]; then
            echo '+cpu +memory +pids' >"$hierarchy/cgroup.subtree_control"
        fi
        for name in "$1" "$1/own"; do
            place=$hierarchy/$name
            mkdir -p "$place"
            for file in cpuset.cpus cpuset.mems; do
                [ ! -e "$place/$file" ] || [ "$mode" = v2 ] || cat "${place%/*}/$file" >"$place/$file"
            done
            for file in . cgroup.procs tasks cgroup.threads cgroup.subtree_control; do
                [ ! -e "$place/$file" ] || chown "$stranger:$stranger" "$place/$file"
            done
        done
    done
}

# The runtime as he calls it, from the cgroup PLACE of every hierarchy.
# (busybox takes its own setpriv, which cannot change users, unless the path is given.)
as_stranger() {
    begins=$1
    shift
    (
        for hierarchy in $(hierarchies); do
            # This shell's number; what it executes stays there.
            sh -c 'echo $PPID' >"$hierarchy/$begins/cgroup.procs"
        done
        exec env XDG_RUNTIME_DIR=/run/stranger /bin/setpriv --reuid "$stranger" --regid "$stranger" --clear-groups --inh-caps=-all "$runtime" "$@"
    )
}

# bundle() for him, with one id of his own or with those of /etc/subuid.
strangers_bundle() {
    maps="{ \"containerID\": 0, \"hostID\": $stranger, \"size\": 1 }"
    if [ "${ranges:-}" ]; then
        maps="$maps, { \"containerID\": 1, \"hostID\": 2000000, \"size\": 65536 }"
    fi
    linux="\"uidMappings\": [$maps], \"gidMappings\": [$maps], "
    namespaces='{ "type": "user" }, '
    cgroup=${path:-}
    bundle "$@"
    cp "/data/rootfs/$1.sh" /data/strangers/
    sed -i 's|/data/rootfs|/data/strangers|' "/data/bundles/$1/config.json"
}

limits_of_a_user_without_a_cgroup_are_refused() {
    strangers_bundle r-limit '"pids": { "limit": 10 }' 'echo inside'
    said=$(as_stranger . run --bundle /data/bundles/r-limit r-limit 2>&1) && fail "it runs: $said"
    holds "$said" 'needs a cgroup, and this user may not make one in /sys/fs/cgroup'
    strangers_bundle r-plain '' 'echo inside; id -u'
    said=$(as_stranger . run --bundle /data/bundles/r-plain r-plain)
    [ "$said" = "inside
0" ] || fail "$said"
}

limits_of_a_user_hold_in_his_cgroup() {
    delegate strangers
    ranges=yes
    [ "$mode" = v2 ] || path=/strangers/r-own
    strangers_bundle r-own '"pids": { "limit": 12 }, "memory": { "limit": 33554432 }' \
        'cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; tail /dev/zero'
    said=$(as_stranger strangers/own run --bundle /data/bundles/r-own r-own 2>&1) && fail "it was not killed: $said"
    holds "$said" 12
    holds "$said" 33554432
    left=$(find /sys/fs/cgroup -type d -name r-own)
    [ -z "$left" ] || fail "left: $left"
}

a_user_pauses_and_updates_his_container() {
    delegate strangers
    [ "$mode" = v2 ] || path=/strangers/r-life
    strangers_bundle r-life '"pids": { "limit": 12 }' 'sleep 1000'
    as_stranger strangers/own run -d --bundle /data/bundles/r-life r-life >/dev/null 2>/run/said </dev/null || fail "$(cat /run/said)"
    as_stranger strangers/own pause r-life
    holds "$(as_stranger strangers/own state r-life)" '"paused"'
    as_stranger strangers/own resume r-life
    as_stranger strangers/own update --pids-limit 13 r-life
    [ "$(cat "$(find /sys/fs/cgroup -path '*r-life/pids.max')")" = 13 ] || fail "not updated"
    [ "$(as_stranger strangers/own exec r-life id -u)" = 0 ] || fail "no exec"
    as_stranger strangers/own delete --force r-life
    left=$(find /sys/fs/cgroup -type d -name r-life)
    [ -z "$left" ] || fail "left: $left"
}

check limits_of_a_user_without_a_cgroup_are_refused limits_of_a_user_hold_in_his_cgroup a_user_pauses_and_updates_his_container
