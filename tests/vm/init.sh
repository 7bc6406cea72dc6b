#!/bin/busybox sh
# /init of the guest. The kernel's first root refuses pivot_root, so everything moves to a tmpfs first, and this script runs again there.
export PATH=/bin
if [ "${1:-}" != second ]; then
    /bin/busybox --install -s /bin
    mkdir /new
    mount -t tmpfs -o mode=755 tmpfs /new
    cp -a /bin /modules /vm /init /new/
    # With another runtime come its libraries.
    cp -a /lib /lib64 /usr /new/ 2>/dev/null
    mkdir -p /new/new /new/dev /new/proc /new/sys /new/tmp /new/etc /new/root /new/run /new/var/lib /new/data
    exec switch_root /new /init second
fi
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666,mode=620 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
exec </dev/console >/dev/console 2>&1
chmod 1777 /tmp
mode=$(sed 's/.*dhow\.mode=\([a-z0-9-]*\).*/\1/' /proc/cmdline)
# The firmware leaves its line open.
echo
echo "dhow-vm: $mode, Linux $(uname -r), up for $(cut -d' ' -f1 /proc/uptime) s"
while read -r module; do
    insmod "/modules/$module" || echo "dhow-vm: no module $module"
done </modules/order
# A disk of its own for the store: a tmpfs has no user.* attributes, and nothing to limit the rate of.
mke2fs -q /dev/vda >/dev/null 2>&1
mount -t ext4 /dev/vda /data || mount -t ext2 /dev/vda /data || echo "dhow-vm: no disk"
# The Debian on the other disk goes on from here, and runs the checks when it is up.
case $mode in
systemd*)
    mount -t ext4 /dev/vdb /new || echo "dhow-vm: no Debian"
    mkdir -p /new/data /new/vm
    cp /bin/dhow /bin/dhow-runtime /bin/dhow-monitor /bin/busybox /new/usr/local/bin/
    other=$(sed -n 's/.*dhow\.runtime=\([^ ]*\).*/\1/p' /proc/cmdline)
    [ -z "$other" ] || cp "/bin/$other" /new/usr/local/bin/
    cp -a /vm/. /new/vm/
    echo "$mode" >/new/vm/mode
    cp /vm/checks.service /new/etc/systemd/system/
    mkdir -p /new/etc/systemd/system/multi-user.target.wants
    ln -s ../checks.service /new/etc/systemd/system/multi-user.target.wants/checks.service
    echo guest >/new/etc/hostname
    mount --move /data /new/data
    umount /dev/shm /dev/pts /sys /proc
    umount -l /dev
    exec switch_root /new /sbin/init
    ;;
esac
ip link set lo up
hostname guest
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo 'root:x:0:' >/etc/group
# One kind of cgroups and nothing of the other.
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
case $mode in
v2 | disk | full)
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    ;;
v1)
    sed -n 's/^\([a-z_]*\)[[:space:]].*[[:space:]]1$/\1/p' /proc/cgroups | while read -r controller; do
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
    done
    echo 1 >/sys/fs/cgroup/memory/memory.use_hierarchy 2>/dev/null
    ;;
esac
sh /vm/checks.sh "$mode"
sync
poweroff -f
