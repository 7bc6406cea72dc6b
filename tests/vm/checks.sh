#!/bin/sh
# The checks that run inside the guest, as process 1's child and as root with every capability.
# Each is a function whose failure is its exit status; what it says is shown when it fails. usage: checks.sh [MODE]
mode=${1:-$(cat /vm/mode)}
export DHOW_ROOT=/data/root DHOW_STATE=/run/dhow
passed=0
failed=0

# Runs the checks named, each in a shell of its own that may take at most two minutes, or `limit` seconds.
check() {
    for name in "$@"; do
        started=$(cut -d. -f1 /proc/uptime)
        (set -e; "$name") >/tmp/said 2>&1 </dev/null &
        running=$!
        (sleep "${limit:-120}"; kill -9 "$running") >/dev/null 2>&1 &
        watch=$!
        if wait "$running"; then
            passed=$((passed + 1))
            echo "ok $name ($(($(cut -d. -f1 /proc/uptime) - started)) s)"
            # What it counted.
            grep '^# ' /tmp/said
        else
            failed=$((failed + 1))
            echo "FAILED $name"
            sed 's/^/    /' /tmp/said | tail -n 30
        fi
        kill "$watch" 2>/dev/null
        wait "$watch" 2>/dev/null
    done
}

fail() {
    echo "$*"
    exit 1
}

# Asserts that text holds a word.
holds() {
    case $1 in
    *"$2"*) ;;
    *) fail "expected '$2' in: $1" ;;
    esac
}

programs_run() {
    dhow version
    dhow-runtime --version
}

cgroups_are_as_asked() {
    case $mode in
    v2 | disk | full)
        ! grep -q ' cgroup ' /proc/mounts || fail "a v1 hierarchy is mounted: $(grep ' cgroup ' /proc/mounts)"
        for controller in cpu io memory pids cpuset; do
            grep -qw "$controller" /sys/fs/cgroup/cgroup.controllers || fail "no $controller"
        done
        ;;
    v1)
        ! grep -q ' cgroup2 ' /proc/mounts || fail "a v2 hierarchy is mounted"
        for controller in cpu blkio memory pids devices freezer; do
            test -e "/sys/fs/cgroup/$controller/cgroup.procs" || fail "no $controller"
        done
        ;;
    esac
}

check programs_run cgroups_are_as_asked
. /vm/bundle.sh
[ "$mode" != disk ] || . /vm/disk.sh
for family in /vm/families/*.sh; do
    case " $(sed -n 's/^# vm-modes: //p' "$family") " in
    *" $mode "*)
        # shellcheck source=/dev/null # one of those beside this file
        . "$family"
        ;;
    esac
done
echo "$passed passed, $failed failed"
