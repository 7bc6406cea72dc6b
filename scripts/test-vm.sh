#!/bin/sh
# Boots the distribution's own kernel in qemu, with the built programs in an initramfs, and runs tests/vm/checks.sh there:
# what a machine with hybrid cgroups, or a root without CAP_SYS_RESOURCE, cannot show. The processor is emulated, so that it runs anywhere.
# Needs the packages qemu-system-x86, cpio and busybox-static, and mmdebstrap and e2fsprogs for the guests with systemd; kernels are downloaded and unpacked under target/, not installed.
# DHOW_VM_RUNTIME=/usr/sbin/runc runs the checks of the runtime with another one, to see what is the checks' fault;
# DHOW_VM_ONLY="criu cgroups" only the files of checks that are named.
#
# Each file tests/vm/NAME.sh is a family of checks. Lines at its top say what it needs:
#   # vm-modes: v2 v1                        in which guests it runs
#   # vm-programs: criu                      programs of this machine that come along with their libraries, and the packages are in the Makefile
#   # vm-modules: dm_flakey                  modules of the guest's kernel, which come along with those that they need
#   # vm-cmdline: apparmor=1                 words for the kernel's command line
#
# The guests: v2 and v1 have that kind of cgroups and busybox as their process 1; disk is v2 for the checks that break a disk, and full is v2 with the kernel
# that is not cut down for clouds; systemd and systemd-v1 are a minimal Debian (package mmdebstrap), kept under target/ as the kernels are, with systemd over
# that kind of cgroups.
# usage: test-vm.sh DIRECTORY-OF-PROGRAMS [v2|v1|disk|full|systemd|systemd-v1]...
set -eu
programs=$(cd "${1:?usage: test-vm.sh DIRECTORY-OF-PROGRAMS [v2|v1|disk|full|systemd|systemd-v1]...}" && pwd)
shift
here=$(cd "$(dirname "$0")/.." && pwd)
place=${CARGO_TARGET_DIR:-$here/target}/vm
mkdir -p "$place"
work=$(mktemp -d "$place/run.XXXXXX")
qemu=
finish() {
    status=$?
    trap - EXIT INT TERM
    [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || :
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The package that the metapackage $1 stands for today.
kernel_package() { apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1; }

# Unpacks it once.
fetch_kernel() {
    package=$(kernel_package "$1")
    if [ -z "$package" ]; then
        apt-get update -q >&2
        package=$(kernel_package "$1")
    fi
    [ -n "$package" ] || { echo "test-vm: no package $1 here" >&2; return 1; }
    if [ ! -d "$place/$package" ]; then
        echo "test-vm: fetching $package" >&2
        (cd "$work" && { apt-get download -q "$package" || { apt-get update -q && apt-get download -q "$package"; }; }) >&2
        dpkg -x "$work/$package"_*.deb "$work/kernel"
        busybox depmod -b "$work/kernel" "${package#linux-image-}"
        mv "$work/kernel" "$place/$package"
    fi
    echo "$package"
}

# A minimal Debian of this machine's release with systemd, its bus and users' sessions, as a disk. Made once.
make_debian() {
    disk=$place/systemd.ext4
    [ -s "$disk" ] && [ "$disk" -nt "$here/scripts/base-images.sh" ] && return 0
    echo "test-vm: making a Debian with systemd" >&2
    DHOW_BASE_INCLUDE=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,uidmap \
        "$here/scripts/base-images.sh" "$work/base" debian >&2
    mkdir "$work/tree"
    tar --numeric-owner -xf "$work/base/debian.tar" -C "$work/tree"
    truncate -s 1G "$work/systemd.ext4"
    mke2fs -q -t ext4 -O ^has_journal -d "$work/tree" "$work/systemd.ext4"
    rm -rf "$work/tree" "$work/base"
    mv "$work/systemd.ext4" "$disk"
}

# A module with all that it needs, in the order in which they are to be inserted.
module_closure() {
    awk -F: -v wanted="$1" '
        { name = $1; sub(/.*\//, "", name); sub(/\.ko.*/, "", name); gsub(/-/, "_", name); path[name] = $1; needs[$1] = $2 }
        END { if (wanted in path) { n = split(needs[path[wanted]], need, " "); for (i = n; i > 0; i--) print need[i]; print path[wanted] } }' "$modules/modules.dep"
}

# The families of checks that run in the guest $1.
families_of() {
    for file in "$here"/tests/vm/*.sh; do
        name=$(basename "$file" .sh)
        case " ${DHOW_VM_ONLY:-$name} " in *" $name "*) ;; *) continue ;; esac
        case " $(sed -n 's/^# vm-modes: //p' "$file") " in *" $1 "*) echo "$name" ;; esac
    done
}

# What they need, by the word at the top of their files.
wanted() {
    for family in $families; do sed -n "s/^# vm-$1: //p" "$here/tests/vm/$family.sh"; done | tr ' ' '\n' | sed '/^$/d' | sort -u
}

# A program of this machine with its libraries, under its own name in /bin.
bring_program() {
    path=$(command -v "$1") || { echo "test-vm: $1 is not installed" >&2; return 1; }
    cp -L "$path" "$tree/bin/"
    { ldd "$path" 2>/dev/null || :; } | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$tree$library" ] || install -D "$library" "$tree$library"
    done
}

initramfs() {
    tree=$work/initramfs
    rm -rf "$tree"
    mkdir -p "$tree/bin" "$tree/modules" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/tmp" "$tree/vm/families"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    for program in dhow dhow-runtime dhow-monitor; do
        cp "$programs/$program" "$tree/bin/"
        # Symbols are of no use there, and the whole tree is memory of the guest.
        strip "$tree/bin/$program" 2>/dev/null || :
    done
    for program in $(wanted programs) ${DHOW_VM_RUNTIME:-}; do bring_program "$program"; done
    for module in overlay loop virtio_pci virtio_blk crc32c_generic ext4 $(wanted modules); do module_closure "$module"; done | awk '!seen[$0]++' |
        while read -r path; do
            cp "$modules/$path" "$tree/modules/"
            basename "$path" >>"$tree/modules/order"
        done
    "$here/scripts/busybox-rootfs.sh" "$tree/vm/busybox.tar"
    cp "$here/tests/vm/checks.sh" "$here/tests/vm/bundle.sh" "$here/tests/vm/disk.sh" "$here/tests/vm/checks.service" "$tree/vm/"
    for family in $families; do cp "$here/tests/vm/$family.sh" "$tree/vm/families/"; done
    cp "$here/tests/vm/init.sh" "$tree/init"
    chmod 755 "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initramfs.cpio"
}

# The kernel and the initramfs of the guest $1.
prepare() {
    case $1 in
    full) package=$(fetch_kernel linux-image-amd64) ;;
    *) package=$(fetch_kernel linux-image-cloud-amd64) ;;
    esac
    version=${package#linux-image-}
    kernel=$place/$package
    modules=$kernel/lib/modules/$version
    families=$(families_of "$1")
    initramfs
}

# Boots once. The serial line is the guest's output; its last line says how it went.
boot() {
    echo "== $1 on Linux $version"
    # A disk to write to at a limited rate, sparse; the guest formats it.
    truncate -s 1G "$work/disk"
    # Before anybody looks into it.
    : >"$work/output"
    debian=
    words=
    case $1 in
    systemd*)
        make_debian
        # What the guest writes there is forgotten.
        debian="-drive file=$place/systemd.ext4,if=virtio,format=raw,snapshot=on"
        words="systemd.show_status=0 systemd.getty_auto=0 systemd.unified_cgroup_hierarchy=$([ "$1" = systemd ] && echo 1 || echo 0)"
        ;;
    esac
    # The slowest boot seen took a tenth of this; to break disks at every moment takes longer.
    case $1 in disk) limit=3600 ;; *) limit=900 ;; esac
    limit=${DHOW_VM_TIMEOUT:-$limit}
    # shellcheck disable=SC2086 # $debian is words
    timeout "$limit" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 2 -m 1536 -nographic -no-reboot -nic none \
        -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initramfs.cpio" \
        -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" $debian \
        -append "console=ttyS0 loglevel=3 panic=-1 dhow.mode=$1 $words $(wanted cmdline | tr '\n' ' ')${DHOW_VM_RUNTIME:+ dhow.runtime=${DHOW_VM_RUNTIME##*/}}" </dev/null >"$work/output" 2>&1 &
    qemu=$!
    # Printed as it comes, without what the firmware and the kernel say.
    tail -n +1 -f --pid="$qemu" "$work/output" 2>/dev/null | LC_ALL=C sed -nu 's/\r$//; s/^.*dhow-vm: /dhow-vm: /; /^\[ *[0-9.]*\] /d; /^dhow-vm: /,$p'
    status=0
    wait "$qemu" || status=$?
    qemu=
    rm -f "$work/disk"
    last=$(tr -d '\r' <"$work/output" | grep -a -E '^[0-9]+ passed, [0-9]+ failed$' | tail -n 1)
    case $last in
    *' 0 failed') return 0 ;;
    '')
        echo "test-vm: the guest ended without a result (qemu's status $status); its last words:" >&2
        tail -n 20 "$work/output" >&2
        return 1
        ;;
    *) return 1 ;;
    esac
}

[ $# -gt 0 ] || set -- v2 v1 full disk systemd systemd-v1
failed=
for mode in "$@"; do
    prepare "$mode"
    boot "$mode" || failed="$failed $mode"
done
[ -z "$failed" ] || { echo "test-vm: failed:$failed" >&2; exit 1; }
