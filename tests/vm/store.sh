# Checks of the store on a disk that loses what is written, or answers with errors, at any moment of what is done to it. Read by checks.sh.
# vm-modes: disk
# vm-programs: dmsetup mke2fs mkfs.xfs
# vm-modules: dm_flakey xfs
# shellcheck shell=sh

# What the verbs work on: an image in a registry and in an archive, a context to build. From a store on a disk that is whole.
store_has_what_it_needs() {
    dhow import /vm/busybox.tar busybox
    new_tar /data/small.tar 100000
    dhow import /data/small.tar small
    dhow save -o /data/small.archive small
    serve_image small
    mkdir -p /data/small-context
    head -c 50000 /dev/urandom >/data/small-context/data
    printf 'FROM busybox\nCOPY data /data\nRUN wc -c /data >/counted\n' >/data/small-context/Dockerfile
}

# One verb that leaves the image NAME. usage: do_verb DISK VERB NAME
do_verb() {
    case $2 in
    import) dhow_on "$1" import /data/small.tar "$3" ;;
    load) dhow_on "$1" load -q -i /data/small.archive && dhow_on "$1" tag small "$3" ;;
    tag) dhow_on "$1" tag busybox "$3" ;;
    build) dhow_on "$1" build -q -t "$3" /data/small-context ;;
    pull) dhow_on "$1" pull -q 127.0.0.1:5000/small && dhow_on "$1" tag 127.0.0.1:5000/small "$3" ;;
    rmi) dhow_on "$1" rmi gone ;;
    esac
}

store_verbs='import load tag build pull rmi'

# The verb while the disk turns at some moment of it, then from what is on the disk: what was answered is so, the rest is whole, and it can be done again.
# MOMENT is in hundredths of a second, or `after`: when it has answered. usage: verb_on_a_turning_disk DISK VERB HOW MOMENT
verb_on_a_turning_disk() {
    dhow_on "$1" import /data/small.tar gone >/dev/null
    dhow_on "$1" rmi -f small 127.0.0.1:5000/small "done-$2" >/dev/null 2>&1 || :
    dhow_on "$1" system prune --force >/dev/null
    [ "$2" != import ] || new_tar /data/small.tar 100000
    rm -f /tmp/verb-answered
    (do_verb "$1" "$2" "done-$2" >/tmp/verb-said 2>/tmp/verb-error && touch /tmp/verb-answered) &
    verb=$!
    status=
    if [ "$4" = after ]; then wait_for_verb; else nap "$4"; fi
    answered=
    # A disk that drops lies from then on: what is answered later is worth nothing.
    [ "$3" != drops ] || [ ! -e /tmp/verb-answered ] || answered=yes
    turn_disk "$1" "$3"
    [ "$status" ] || wait_for_verb
    [ "$3" = drops ] || [ "$status" != 0 ] || answered=yes
    if [ "$3" != drops ] && [ "$status" != 0 ]; then
        refused=$((refused + 1))
        # A command of the build says for itself what it met.
        [ "$(grep -v '^/bin/sh: ' /tmp/verb-error | wc -l)" = 1 ] || fail "$2, moment $4: not one line: $(cat /tmp/verb-error)"
        tail -n 1 /tmp/verb-error | grep -q '^dhow: ' || fail "$2, moment $4: $(cat /tmp/verb-error)"
        grep -q 'Input/output error\|Read-only file system\|Structure needs cleaning' /tmp/verb-error || fail "$2, moment $4: $(cat /tmp/verb-error)"
    fi
    mount_again "$1"
    echo "$2, moment $4: status $status, answered: ${answered:-no}, $(tail -n 1 /tmp/verb-error)"
    store_is_clean "$1"
    image_is_whole "$1" busybox "$base"
    if [ "$answered" ]; then verb_holds "$1" "$2"; fi
    [ "$2,$(image_id "$1" gone)" = rmi, ] || do_verb "$1" "$2" "done-$2" >/dev/null
}

wait_for_verb() {
    status=0
    wait "$verb" || status=$?
}

# That what the verb answered for is there, or not any more. usage: verb_holds DISK VERB
verb_holds() {
    held=$((held + 1))
    if [ "$2" = rmi ]; then
        [ -z "$(image_id "$1" gone)" ] || fail "it is not gone"
        return 0
    fi
    id=$(image_id "$1" "done-$2")
    [ "$id" ] || fail "$2 was answered, and the image is not there: $(cat /tmp/verb-said)"
    image_is_whole "$1" "done-$2" "$id"
}

# Each verb, at moments all over the time that it takes, in hundredths of it, and when it has answered. usage: all_verbs FILE-SYSTEM MIB HOW PART...
all_verbs() {
    on_disk=$1-$3
    turns=$3
    make_disk "$on_disk" "$1" "$2"
    shift 3
    dhow_on "$on_disk" import /vm/busybox.tar busybox >/dev/null
    base=$(image_id "$on_disk" busybox)
    refused=0
    held=0
    for verb_name in $store_verbs; do
        dhow_on "$on_disk" import /data/small.tar gone >/dev/null
        [ "$verb_name" != import ] || new_tar /data/small.tar 100000
        began=$(now)
        do_verb "$on_disk" "$verb_name" "done-$verb_name" >/dev/null
        took=$(($(now) - began))
        for part in "$@"; do verb_on_a_turning_disk "$on_disk" "$verb_name" "$turns" $((took * part / 100)); done
        verb_on_a_turning_disk "$on_disk" "$verb_name" "$turns" after
    done
    # Who turned at once must have met it, and who turned at the end must not.
    [ "$turns" = drops ] || [ "$refused" -gt 0 ] || fail "no verb met the failure"
    [ "$held" -ge 6 ] || fail "only $held verbs were answered for"
    echo "# $refused verbs met the failure, $held were answered for"
    remove_disk "$on_disk"
}

store_on_ext4_that_refuses_writes() { all_verbs ext4 96 refuses 0 30 60 90; }
store_on_xfs_that_refuses_writes() { all_verbs xfs 320 refuses 0 70; }
store_on_ext4_that_fails() { all_verbs ext4 96 fails 0 70; }
store_on_ext4_that_drops_writes() { all_verbs ext4 96 drops 30 60 90; }

limit=1800
check store_has_what_it_needs store_on_ext4_that_drops_writes store_on_ext4_that_fails store_on_xfs_that_refuses_writes store_on_ext4_that_refuses_writes
limit=
