# Checks of what a store's disk holds at every moment: all that is written to it is logged, and replayed up to each flush. Read by checks.sh.
# vm-modes: disk
# vm-programs: dmsetup mke2fs mkfs.xfs
# vm-modules: dm_log_writes dm_snapshot xfs
# shellcheck shell=sh

# A disk with a new file system, whose writes are logged from then on, and a copy of it as it is now. usage: make_logged_disk NAME ext4|xfs MIB
make_logged_disk() {
    new_loop "$1" "$3"
    make_file_system "$2" "$(cat "/run/$1.loop")"
    cp "/data/$1.img" "/data/$1-replayed.img"
    attach_loop "$1-replayed"
    new_loop "$1-log" 400
    dmsetup create "$1" --table "0 $(sectors "$1") log-writes $(cat "/run/$1.loop") $(cat "/run/$1-log.loop")"
    mkdir -p "/mnt/$1"
    mount -t "$2" "/dev/mapper/$1" "/mnt/$1"
}

# Writes into the log what holds from here on. usage: promise DISK NAME ID, withdraw DISK NAME
promise() { dmsetup message "$1" 0 mark "holds|$2|$3"; }
withdraw() { dmsetup message "$1" 0 mark "ends|$2"; }

# dhow does it, then it is promised that the image of this name is there. usage: promised DISK NAME ARGUMENTS
promised() {
    promised_on=$1
    promised_name=$2
    shift 2
    dhow_on "$promised_on" "$@" >/dev/null
    promise "$promised_on" "$promised_name" "$(image_id "$promised_on" "$promised_name")"
}

# The store's day.
work_on() {
    promised "$1" one import /data/one.tar one
    promised "$1" alias tag one alias
    promised "$1" loaded load -q -i /data/loaded.archive
    promised "$1" 127.0.0.1:5000/pulled pull -q 127.0.0.1:5000/pulled
    withdraw "$1" one
    dhow_on "$1" rmi one >/dev/null
    withdraw "$1" alias
    promised "$1" alias tag loaded alias
    # Its layer stays with the other name, its blob goes, and the registry has it: what says so is all that is left of it.
    dhow_on "$1" pull -q 127.0.0.1:5000/loaded >/dev/null
    dhow_on "$1" rmi 127.0.0.1:5000/loaded >/dev/null
    dhow_on "$1" system prune --force >/dev/null
    promised "$1" 127.0.0.1:5000/loaded pull -q 127.0.0.1:5000/loaded
    promised "$1" base import /vm/busybox.tar base
    promised "$1" built build -q -t built /data/logged-context
    withdraw "$1" 127.0.0.1:5000/pulled
    dhow_on "$1" rmi 127.0.0.1:5000/pulled >/dev/null
    dhow_on "$1" system prune --force >/dev/null
    promised "$1" last import /data/one.tar last
}

# Four numbers of the log: where, how much (both in sectors), flags and length of a mark. usage: entry FILE OFFSET
entry() { od -A n -t u8 -j "$2" -N 32 "$1"; }

# Applies the log (Documentation/admin-guide/device-mapper/log-writes.rst) to the disk as it was, and looks at it after each STEPth flush, where something is promised, and at the end.
# usage: replay NAME FILE-SYSTEM STEP
replay() {
    log=/data/$1-log.img
    # shellcheck disable=SC2046 # two numbers
    set -- "$@" $(od -A n -t u8 -j 16 -N 8 "$log") $(od -A n -t u4 -j 24 -N 4 "$log")
    began=$(($(now) / 100))
    entries=$4
    echo "$entries entries"
    unit=$5
    target=/data/$1-replayed.img
    rm -rf /tmp/held
    mkdir -p /tmp/held
    at=$unit
    flushes=0
    looks=0
    held_once=0
    number=0
    while [ "$number" -lt "$entries" ]; do
        number=$((number + 1))
        # shellcheck disable=SC2046 # four numbers
        apply_entry $(entry "$log" "$at")
        if [ $((flags & 8)) != 0 ]; then
            keep_mark "$(dd if="$log" iflag=skip_bytes,count_bytes skip=$((at - unit + 32)) count="$length" 2>/dev/null)"
            look_at "$1" "$2"
            continue
        fi
        # Flush or FUA: what came before is on the disk.
        [ $((flags & 3)) != 0 ] || continue
        flushes=$((flushes + 1))
        [ $((flushes % $3)) != 0 ] || look_at "$1" "$2"
    done
    look_at "$1" "$2"
    [ "$looks" -gt 5 ] || fail "$flushes flushes, looked at $looks times"
    echo "# $entries entries, $flushes flushes, looked at $looks times; $held_once promises"
}

# Applies the entry whose numbers are given and goes on to the next. usage: apply_entry WHERE HOW-MUCH FLAGS LENGTH
apply_entry() {
    flags=$3
    length=$4
    at=$((at + unit))
    [ "$2" != 0 ] || return 0
    # What is discarded may stay, as on a disk that does nothing about it.
    [ $((flags & 4)) = 0 ] || return 0
    dd if="$log" of="$target" bs=64k iflag=skip_bytes,count_bytes oflag=seek_bytes skip="$at" seek=$(($1 * unit)) count=$(($2 * unit)) conv=notrunc 2>/dev/null
    at=$((at + $2 * unit))
}

keep_mark() {
    # shellcheck disable=SC2046 # words
    set -- $(echo "$1" | tr '|' ' ')
    file=/tmp/held/$(echo "$2" | tr / _)
    case $1 in
    holds)
        echo "$2 $3" >"$file"
        held_once=$((held_once + 1))
        ;;
    ends) rm -f "$file" ;;
    esac
}

# The disk as it would be after a loss of power now: below a snapshot, since to mount it is to write to it. usage: look_at NAME FILE-SYSTEM
look_at() {
    looks=$((looks + 1))
    echo "look $looks: entry $number, flush $flushes, $(($(now) / 100 - began)) s"
    new_loop "$1-cow" 64
    dmsetup create "$1-now" --table "0 $(sectors "$1") snapshot $(cat "/run/$1-replayed.loop") $(cat "/run/$1-cow.loop") N 8"
    mkdir -p "/mnt/$1-now"
    mount -t "$2" "/dev/mapper/$1-now" "/mnt/$1-now" || fail "flush $flushes: it cannot be mounted"
    store_is_clean "$1-now"
    # One program for all of them, and one for each byte of them.
    dhow_on "$1-now" images --no-trunc | awk '{ print $1 ":" $2, $3 }' >/tmp/found
    names=
    for held in /tmp/held/*; do
        [ -e "$held" ] || continue
        read -r name id <"$held"
        grep -qx "$name:latest $id" /tmp/found || fail "flush $flushes: $name is not $id: $(cat /tmp/found)"
        names="$names $name"
    done
    # shellcheck disable=SC2086 # names
    [ -z "$names" ] || dhow_on "$1-now" save -o /dev/null $names
    umount "/mnt/$1-now"
    dmsetup remove "$1-now"
    losetup -d "$(cat "/run/$1-cow.loop")"
}

logged_store_has_what_it_needs() {
    new_tar /data/one.tar 150000
    new_tar /data/loaded.tar 200000
    new_tar /data/pulled.tar 250000
    for name in loaded pulled; do dhow import "/data/$name.tar" "$name"; done
    # Before the registry has it: with its layer in another form.
    dhow save -o /data/loaded.archive loaded
    serve_image loaded
    serve_image pulled
    mkdir -p /data/logged-context
    head -c 50000 /dev/urandom >/data/logged-context/data
    printf 'FROM base\nCOPY data /data\nRUN wc -c /data >/counted\n' >/data/logged-context/Dockerfile
}

# usage: log_and_replay FILE-SYSTEM MIB STEP
log_and_replay() {
    make_logged_disk "logged-$1" "$1" "$2"
    work_on "logged-$1"
    unmount_when_free "/mnt/logged-$1"
    dmsetup remove "logged-$1"
    replay "logged-$1" "$1" "$3"
}

every_flush_of_ext4_leaves_a_whole_store() { log_and_replay ext4 64 8; }
every_flush_of_xfs_leaves_a_whole_store() { log_and_replay xfs 320 8; }

# The checks above can fail: a promise that is made before the work is begun is found broken.
a_promise_before_its_time_is_seen() {
    make_logged_disk logged-early ext4 64
    dhow load -q -i /data/loaded.archive >/dev/null
    promise logged-early loaded "$(dhow images -q --no-trunc loaded)"
    dhow_on logged-early load -q -i /data/loaded.archive >/dev/null
    unmount_when_free /mnt/logged-early
    dmsetup remove logged-early
    if (replay logged-early ext4 1) >/tmp/early 2>&1; then fail "nothing is seen: $(cat /tmp/early)"; fi
    holds "$(tail -n 1 /tmp/early)" "loaded is not sha256:"
}

limit=600
check logged_store_has_what_it_needs a_promise_before_its_time_is_seen every_flush_of_ext4_leaves_a_whole_store every_flush_of_xfs_leaves_a_whole_store
limit=
