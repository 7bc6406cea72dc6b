# Checks of the runtime whose own directory (--root) is on a disk that fails. Read by checks.sh.
# vm-modes: disk
# vm-programs: dmsetup mke2fs
# vm-modules: dm_flakey
# shellcheck shell=sh

state_rt() { "$runtime" --root /mnt/state/run "$@"; }

# Everything is written at once: a program hears of what the disk says.
state_disk() {
    disk_options=sync,dirsync make_disk state ext4 32
    mkdir /mnt/state/run
    bundle "$1" '"memory": { "limit": 33554432 }' 'exec sleep 1000'
}

# That it failed, with one error that names what the disk said; what could not be cleaned up is a warning. usage: failed_clearly STATUS TEXT
failed_clearly() {
    [ "$1" != 0 ] || fail "it says that it was done"
    [ "$(echo "$2" | grep -vc level=warning)" = 1 ] || fail "not one line: $2"
    echo "$2" | tail -n 1 | grep -q 'Input/output error\|Read-only file system' || fail "$2"
}

# Whether a container's program is there.
runs_on() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -q 'sleep 100[0]'; }

# That nothing of the container is there, once the disk is whole again and delete --force has answered.
nothing_is_left_of() {
    disk_options=sync,dirsync mount_again state
    said=$(state_rt delete --force "$1" 2>&1) || fail "delete --force: $said"
    [ "$(state_rt list -q)" = '' ] || fail "left: $(state_rt list)"
    [ -z "$(ls /mnt/state/run)" ] || fail "left: $(ls /mnt/state/run)"
    [ -z "$(cgroup_directories "$1")" ] || fail "a cgroup is left: $(cgroup_directories "$1")"
    ! grep -q "/data/rootfs" /proc/mounts || fail "a mount is left"
    ! runs_on || fail "a process is left: $(ps)"
    # And another one of this name can be made.
    state_rt create --bundle "/data/bundles/$1" "$1" </dev/null >/dev/null 2>&1 || fail "create afterwards"
    state_rt delete --force "$1"
    remove_disk state
}

create_on_a_disk_that_fails() {
    for how in refuses fails; do
        state_disk unborn
        turn_disk state "$how"
        status=0
        state_rt create --bundle /data/bundles/unborn unborn </dev/null >/tmp/create-said 2>&1 || status=$?
        failed_clearly "$status" "$(cat /tmp/create-said)"
        nothing_is_left_of unborn
    done
}

start_on_a_disk_that_fails() {
    for how in refuses fails; do
        state_disk early
        state_rt create --bundle /data/bundles/early early </dev/null >/dev/null 2>&1
        turn_disk state "$how"
        status=0
        said=$(state_rt start early 2>&1) || status=$?
        [ "$status" = 0 ] || failed_clearly "$status" "$said"
        echo "$how: start's status $status $said"
        nothing_is_left_of early
    done
}

exec_and_kill_on_a_disk_that_fails() {
    for how in refuses fails; do
        state_disk entered
        state_rt run -d --bundle /data/bundles/entered entered </dev/null >/dev/null 2>&1
        turn_disk state "$how"
        status=0
        said=$(state_rt exec entered echo inside 2>&1) || status=$?
        if [ "$status" = 0 ]; then [ "$said" = inside ] || fail "$said"; else failed_clearly "$status" "$said"; fi
        status=0
        said=$(state_rt kill entered KILL 2>&1) || status=$?
        [ "$status" = 0 ] || failed_clearly "$status" "$said"
        nothing_is_left_of entered
    done
}

delete_on_a_disk_that_fails() {
    for how in refuses fails; do
        state_disk late
        state_rt run -d --bundle /data/bundles/late late </dev/null >/dev/null 2>&1
        turn_disk state "$how"
        status=0
        said=$(state_rt delete --force late 2>&1) || status=$?
        echo "$how: delete's status $status $said"
        failed_clearly "$status" "$said"
        # The program is gone, whether its record can be removed or not.
        ! runs_on || fail "it runs on"
        nothing_is_left_of late
    done
}

# The power goes in the middle of create: the processes with it.
create_without_power() {
    for moment in 0 1 2 4 8 12 20 30; do
        state_disk dark
        state_rt create --bundle /data/bundles/dark dark </dev/null >/dev/null 2>&1 &
        creates=$!
        nap "$moment"
        turn_disk state drops
        wait "$creates" || :
        # With the machine end its processes and its cgroups.
        if [ -e /sys/fs/cgroup/dhow-vm/dark ]; then
            echo 1 >/sys/fs/cgroup/dhow-vm/dark/cgroup.kill
            for _ in 1 2 3 4 5 6 7 8 9 10; do
                ! rmdir /sys/fs/cgroup/dhow-vm/dark 2>/dev/null || break
                sleep 0.2
            done
        fi
        nothing_is_left_of dark
    done
}

check create_on_a_disk_that_fails start_on_a_disk_that_fails exec_and_kill_on_a_disk_that_fails delete_on_a_disk_that_fails create_without_power
