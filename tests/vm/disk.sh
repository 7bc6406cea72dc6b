# Disks that fail when they are told to: loop devices below targets of the device mapper. Read by checks.sh in the guest `disk`.
# shellcheck shell=sh
# There is no udev that would answer.
export DM_DISABLE_UDEV=1

sectors() { echo $(($(stat -c %s "/data/$1.img") / 512)); }

# A new file of MIB mebibytes as a loop device. usage: new_loop NAME MIB
new_loop() {
    rm -f "/data/$1.img"
    truncate -s "$2M" "/data/$1.img"
    attach_loop "$1"
}

attach_loop() {
    losetup -f >"/run/$1.loop"
    losetup "$(cat "/run/$1.loop")" "/data/$1.img"
}

# By their paths: the shell has lesser ones of these names inside.
make_file_system() {
    case $1 in
    ext4) /bin/mke2fs -q -t ext4 -F "$2" ;;
    xfs) /bin/mkfs.xfs -q -f "$2" ;;
    esac
}

# A disk with a file system, mounted at /mnt/NAME: flakey, and whole as yet. Read besides: disk_options, of the mount.
# usage: make_disk NAME ext4|xfs MIB
make_disk() {
    # A check that failed leaves its own.
    [ ! -e "/run/$1.loop" ] || remove_disk "$1"
    new_loop "$1" "$3"
    dmsetup create "$1" --table "0 $(sectors "$1") flakey $(cat "/run/$1.loop") 0 1 0"
    make_file_system "$2" "/dev/mapper/$1"
    mkdir -p "/mnt/$1"
    mount -t "$2" -o "${disk_options:-defaults}" "/dev/mapper/$1" "/mnt/$1"
}

# What becomes of requests from now on. usage: turn_disk NAME whole|drops|refuses|fails
turn_disk() {
    case $2 in
    whole) turned='1 0' ;;
    # Writes are answered for and lost.
    drops) turned='0 1 1 drop_writes' ;;
    # Writes are errors, what was written can be read.
    refuses) turned='0 1 1 error_writes' ;;
    # Everything is an error.
    fails) turned='0 1' ;;
    esac
    dmsetup suspend --nolockfs "$1"
    dmsetup load "$1" --table "0 $(sectors "$1") flakey $(cat "/run/$1.loop") 0 $turned"
    dmsetup resume "$1"
}

# Unmounts it when nothing works on it any more: what a removed image leaves is collected behind the answer.
unmount_when_free() {
    for _ in $(seq 200); do
        ! umount "$1" 2>/tmp/busy || return 0
        sleep 0.1
    done
    fail "$(cat /tmp/busy)"
}

# Mounts it again after a failure, from what is on it and not from what is in memory. usage: mount_again NAME
mount_again() {
    kind=$(sed -n "s|^/dev/mapper/$1 /mnt/$1 \([a-z0-9]*\) .*|\1|p" /proc/mounts)
    unmount_when_free "/mnt/$1"
    turn_disk "$1" whole
    mount -t "$kind" -o "${disk_options:-defaults}" "/dev/mapper/$1" "/mnt/$1"
}

remove_disk() {
    umount "/mnt/$1" 2>/dev/null || :
    dmsetup remove "$1"
    losetup -d "$(cat "/run/$1.loop")"
    rm "/data/$1.img" "/run/$1.loop"
}

# dhow with its store on the disk NAME. usage: dhow_on NAME ARGUMENTS
dhow_on() {
    on=$1
    shift
    DHOW_ROOT=/mnt/$on/root DHOW_STATE=/run/state-$on dhow "$@"
}

# A small tar whose bytes nobody has seen. usage: new_tar FILE BYTES
new_tar() {
    mkdir -p "$1.d"
    head -c "$2" /dev/urandom >"$1.d/file"
    ln -sf file "$1.d/link"
    tar -C "$1.d" -cf "$1" .
}

image_id() { dhow_on "$1" images -q --no-trunc "$2"; }

# That the image is whole, each byte of it read. usage: image_is_whole DISK NAME ID
image_is_whole() {
    [ "$(image_id "$1" "$2")" = "$3" ] || fail "$2 stands for $(image_id "$1" "$2"), not for $3"
    dhow_on "$1" save -o /dev/null "$2"
}

store_is_clean() {
    said=$(dhow_on "$1" system check 2>&1) || fail "system check: $said"
    [ "$said" = '0 damaged, 0 left' ] || fail "system check: $said"
}

# The image NAME of the disk that does not fail, in a registry. usage: serve_image NAME
serve_image() {
    if ! [ -e /run/registry ]; then
        dhow registry serve --addr 127.0.0.1:5000 >/run/registry 2>&1 &
    fi
    dhow tag "$1" "127.0.0.1:5000/$1"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ! dhow push -q "127.0.0.1:5000/$1" 2>/tmp/push || return 0
        sleep 0.5
    done
    fail "$(cat /tmp/push)"
}

# Time in hundredths of a second.
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }

nap() { sleep "$(($1 / 100)).$(printf %02d $(($1 % 100)))"; }
