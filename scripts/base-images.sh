#!/bin/sh
# Makes the root file systems that images start from, out of the distribution's packages, once:
#   busybox.tar  the static busybox (scripts/busybox-rootfs.sh)
#   debian.tar   a minimal Debian of this machine's release (package mmdebstrap), which fetches packages as this machine does
# With internet neither is needed: `dhow pull busybox`, `dhow pull debian`.
# usage: scripts/base-images.sh [DIRECTORY [NAME...]]     NAME: busybox, debian; DIRECTORY: target/base-images if not given
# Then: dhow import target/base-images/debian.tar debian
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
directory=${1:-$here/target/base-images}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- busybox debian

mkdir -p "$directory"

# Sources of packages of the distribution itself, as this machine has them; those of others need keys that a small base lacks.
. /etc/os-release
sources=
for file in "/etc/apt/sources.list.d/$ID.sources" /etc/apt/sources.list; do
    if [ -s "$file" ]; then
        sources=$file
        break
    fi
done

# How this machine reaches its mirrors, as settings of apt.
reach() {
    apt-config dump Acquire::http Acquire::https Acquire::Check-Date Acquire::Check-Valid-Until | sed '/ "";$/d'
    # A proxy named in the environment is as good as one in apt's own files, and does not reach into a build otherwise.
    [ -z "${http_proxy:-}" ] || echo "Acquire::http::Proxy \"$http_proxy\";"
    [ -z "${https_proxy:-}" ] || echo "Acquire::https::Proxy \"$https_proxy\";"
}

# What apt keeps for the next time is only carried around by a layer.
thrift() {
    cat <<'SETTINGS'
APT::Keep-Downloaded-Packages "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
SETTINGS
}

make_debian() {
    out=$1
    settings=$(mktemp -d)
    trap 'rm -rf "$settings"' EXIT
    reach >"$settings/reach"
    thrift >"$settings/thrift"
    # A mirror that speaks TLS needs the certificates of those who sign.
    include=${DHOW_BASE_INCLUDE:+--include=$DHOW_BASE_INCLUDE}
    if [ -n "$sources" ] && grep -q '^[^#]*https:' "$sources"; then
        include="$include --include=ca-certificates"
    fi
    # No manual pages, translations and change logs; no fsync for each file, since a layer is synced as a whole.
    # shellcheck disable=SC2086 # $sources and $include are words or nothing
    mmdebstrap --quiet --variant=minbase $include --aptopt="$settings/reach" \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="upload $settings/thrift /etc/apt/apt.conf.d/90thrift" \
        --customize-hook='rm -f "$1"/var/cache/apt/*.bin "$1"/etc/hostname "$1"/etc/resolv.conf' \
        "$VERSION_CODENAME" "$out" $sources
}

for name in "$@"; do
    tar=$directory/$name.tar
    # Many may ask at once, also from several runs of the tests; for each image one makes it, and the others wait. The lock goes with this
    # process, or with the next image.
    exec 9>"$directory/.$name.lock"
    flock 9
    # What it was made from may have changed since.
    if [ -s "$tar" ] && [ "$tar" -nt "$0" ]; then
        case $name in
            busybox) [ "$tar" -nt /bin/busybox ] && [ "$tar" -nt "$here/scripts/busybox-rootfs.sh" ] && continue ;;
            debian) { [ -z "$sources" ] || [ "$tar" -nt "$sources" ]; } && continue ;;
        esac
    fi
    rm -f "$tar.part.tar"
    case $name in
        busybox) "$here/scripts/busybox-rootfs.sh" "$tar.part.tar" ;;
        debian) make_debian "$tar.part.tar" ;;
        *)
            echo "$0: no base image is called $name; there are busybox and debian" >&2
            exit 1
            ;;
    esac
    mv "$tar.part.tar" "$tar"
done
