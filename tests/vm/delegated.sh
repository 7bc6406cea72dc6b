# Checks of a cgroup that is delegated to a user: a subtree of v2 whose owner makes containers in it without root. Read by checks.sh.
# vm-modes: v2
# vm-programs: setpriv
# shellcheck shell=sh

# The user's part: directory and the files that the kernel names, as systemd delegates one. A process of the user's is in it.
delegate() {
    mkdir -p /sys/fs/cgroup/users/person/self /data/person
    echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
    echo '+cpu +memory +pids' >/sys/fs/cgroup/users/cgroup.subtree_control
    for part in person person/self; do
        chown 1000:1000 "/sys/fs/cgroup/users/$part"
        while read -r file; do
            [ ! -e "/sys/fs/cgroup/users/$part/$file" ] || chown 1000:1000 "/sys/fs/cgroup/users/$part/$file"
        done </sys/kernel/cgroup/delegate
    done
    chown 1000:1000 /data/person
    linux='"uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }], "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],'
    namespaces='{ "type": "user" },'
    capabilities='"CAP_KILL"'
}

# By its path: the shell has a lesser one of this name inside.
# A command as the user, from within the user's part (`self`) or from outside (`top`). usage: as_person self|top COMMAND
as_person() {
    place=/sys/fs/cgroup/users/person/self
    [ "$1" = self ] || place=/sys/fs/cgroup
    shift
    sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec /bin/setpriv --reuid=1000 --regid=1000 --clear-groups env XDG_RUNTIME_DIR=/data/person "$@"' sh "$place" "$@"
}

person_runs() { as_person "$1" "$runtime" --root /data/person/runtime run --bundle "/data/bundles/$2" "$2"; }

delegated_limits_hold() {
    delegate
    for path in /users/person/own beside; do
        cgroup=$path
        bundle own '"memory": { "limit": 33554432 }, "pids": { "limit": 12 }, "cpu": { "shares": 2048 }' 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; cat /proc/self/cgroup; exit 3'
        status=0
        said=$(person_runs self own 2>&1) || status=$?
        [ "$status" = 3 ] || fail "$path: status $status: $said"
        holds "$said" 33554432
        holds "$said" 12
    done
    [ "$(ls -d /sys/fs/cgroup/users/person/*/)" = /sys/fs/cgroup/users/person/self/ ] || fail "left: $(ls -d /sys/fs/cgroup/users/person/*/)"
}

delegated_exec_joins() {
    delegate
    cgroup=/users/person/entered
    bundle entered '"pids": { "limit": 12 }' 'exec sleep 100'
    as_person self "$runtime" --root /data/person/runtime run -d --bundle /data/bundles/entered entered >/dev/null </dev/null 2>/tmp/entered || fail "$(cat /tmp/entered)"
    as_person self "$runtime" --root /data/person/runtime exec -d entered sleep 100 >/dev/null </dev/null 2>/tmp/entered || fail "$(cat /tmp/entered)"
    count=$(wc -l </sys/fs/cgroup/users/person/entered/cgroup.procs)
    as_person self "$runtime" --root /data/person/runtime delete --force entered
    [ "$count" = 2 ] || fail "$count processes"
    [ ! -e /sys/fs/cgroup/users/person/entered ] || fail "left"
}

delegated_elsewhere_is_refused() {
    delegate
    cgroup=/users/stranger
    bundle stranger '"memory": { "limit": 33554432 }' 'true'
    status=0
    said=$(person_runs self stranger 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" /sys/fs/cgroup/users/stranger
    # Without a path and without limits it goes without a cgroup, and says which limit it cannot give otherwise.
    cgroup=
    bundle free '' 'echo runs free'
    holds "$(person_runs top free 2>&1)" 'runs free'
    bundle free '"memory": { "limit": 33554432 }' 'echo runs free'
    status=0
    said=$(person_runs top free 2>&1) || status=$?
    [ "$status" = 1 ] || fail "status $status: $said"
    holds "$said" memory
}

# The container's user gets the cgroup that it may write to, but not its limits.
delegated_to_the_container() {
    cgroup=/dhow-vm/given
    bundle given '"memory": { "limit": 33554432 }' 'mkdir /sys/fs/cgroup/inner && echo divided; echo max >/sys/fs/cgroup/memory.max && echo unlimited; exit 0'
    sed -i 's/"relatime", "ro"/"relatime"/; s/"uid": 0, "gid": 0/"uid": 1234, "gid": 1234/' /data/bundles/given/config.json
    said=$(rt run --bundle /data/bundles/given given 2>&1)
    holds "$said" divided
    case $said in *unlimited*) fail "$said" ;; esac
    [ -z "$(cgroup_directories given)" ] || fail "left: $(cgroup_directories given)"
    # Read-only, it stays whose it is.
    bundle kept '' 'stat -c %u /sys/fs/cgroup'
    sed -i 's/"uid": 0, "gid": 0/"uid": 1234, "gid": 1234/' /data/bundles/kept/config.json
    holds "$(rt run --bundle /data/bundles/kept kept)" 0
}

check delegated_limits_hold delegated_exec_joins delegated_elsewhere_is_refused delegated_to_the_container
