#!/bin/sh
# Writes the root file system of a small image as a tar: the distribution's static busybox (package busybox-static),
# a link for each of its applets, and the files that a container looks users up in.
# usage: busybox-rootfs.sh OUT.tar
set -eu
out=${1:?usage: busybox-rootfs.sh OUT.tar}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for dir in bin etc dev proc sys root tmp var/www; do mkdir -p "$tree/$dir"; done
chmod 755 "$tree"
chmod 1777 "$tree/tmp"
chmod 700 "$tree/root"
cp /bin/busybox "$tree/bin/busybox"
/bin/busybox --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
cat >"$tree/etc/passwd" <<EOF
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
EOF
cat >"$tree/etc/group" <<EOF
root:x:0:
staff:x:50:nobody
nogroup:x:65534:
EOF
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$tree" -cf "$out" .
