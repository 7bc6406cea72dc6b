#!/bin/sh
# Push and pull of an image of five layers of 40 MB, over loopback: to and from Debian's docker-registry, and dhow's embedded one.
# Everything that a tool keeps lies on the same disk; a push finds an empty registry, a pull an empty store.
. "$benches/measure.sh"
. "$benches/images.sh"

free_port() {
    port=$1
    while busybox nc -w 1 127.0.0.1 "$port" </dev/null >/dev/null 2>&1; do port=$((port + 1)); done
    echo "$port"
}
debian=$(free_port 5600)
embedded=$(free_port 5700)

# Layers as images have them: the files of this machine's own /usr/lib and /usr/bin, the small and the large, 40 MB each.
context=$work/transfer
mkdir -p "$context"
find /usr/lib /usr/bin -xdev -type f -size -8192k -printf '%s %p\n' 2>/dev/null | LC_ALL=C sort -k 2 |
    awk -v to="$context" -v n=0 '{ if (n < 5) { print substr($0, index($0, " ") + 1) > (to "/list-" n); sum += $1; if (sum > 40000000) { sum = 0; n++ } } }'
echo 'FROM scratch' >"$context/Dockerfile"
for layer in 0 1 2 3 4; do
    mkdir "$context/$layer"
    tar -cf - -T "$context/list-$layer" 2>/dev/null | tar -xf - -C "$context/$layer"
    rm "$context/list-$layer"
    echo "COPY $layer /$layer/" >>"$context/Dockerfile"
done
echo "   $(du -sm "$context" | cut -f1) MB in $(find "$context" -type f | wc -l) files"

# One image for everybody: buildah builds it, skopeo writes it as an OCI layout with gzip layers, and both registries get it from there.
$buildah bud --isolation oci --layers --quiet -t localhost/five "$context" >/dev/null
skopeo="skopeo --tmpdir $work"
$skopeo copy --quiet "containers-storage:[overlay@$work/podman+$work/podman-run]localhost/five" "oci:$work/five:1"
"$benches/registry.sh" debian "$debian"
cp "$work/debian.yml" "$work/source.yml"
source=$(free_port 5800)
sed -i "s/:$debian\"/:$source\"/; s#$work/debian#$work/source#" "$work/source.yml"
mkdir "$work/source"
docker-registry serve "$work/source.yml" >"$work/source.log" 2>&1 </dev/null &
echo $! >"$work/source.pid"
sleep 1
$skopeo copy --quiet --dest-tls-verify=false "oci:$work/five:1" "docker://127.0.0.1:$source/five:1"
transfers=$((${DHOW_BENCH_RUNS:-40} / 10 > 4 ? ${DHOW_BENCH_RUNS:-40} / 10 : 4))

# A build of dhow's own, whose layers have not been compressed yet, is kept aside so that each push can start from it.
dhow build --quiet -t localhost/five "$context" >/dev/null || :
dhow tag localhost/five "127.0.0.1:$debian/five:1" || :
cp -a "$DHOW_ROOT" "$work/fresh" || :
rm -rf "$context"
table push-fresh 'Push of an image that was just built (5 x 40 MB; the layers are compressed on the way) to docker-registry' "$transfers"
preparation dhow <<END
$benches/registry.sh debian $debian && rm -rf $DHOW_ROOT && cp -a $work/fresh $DHOW_ROOT && sync
END
row dhow "dhow push --quiet 127.0.0.1:$debian/five:1"
preparation podman <<END
$benches/registry.sh debian $debian && sync
END
row podman "$podman push --quiet --tls-verify=false localhost/five docker://127.0.0.1:$debian/five:1"
measure
rm -rf "$work/fresh"

for kind in debian embedded; do
    port=$(eval "echo \$$kind")
    "$benches/registry.sh" "$kind" "$port" || continue
    dhow pull --quiet "127.0.0.1:$source/five:1" >/dev/null || :
    dhow tag "127.0.0.1:$source/five:1" "127.0.0.1:$port/five:1" || :
    case $kind in debian) registry=docker-registry suffix= ;; embedded) registry='the embedded registry' suffix=-embedded ;; esac
    table push$suffix "Push of the image to $registry, its layers compressed already" "$transfers"
    preparation any <<END
$benches/registry.sh $kind $port && sync
END
    row dhow "dhow push --quiet 127.0.0.1:$port/five:1"
    row skopeo "$skopeo copy --quiet --dest-tls-verify=false oci:$work/five:1 docker://127.0.0.1:$port/five:1"
    measure

    table pull$suffix "Pull of the image from $registry into an empty store" "$transfers"
    $skopeo copy --quiet --dest-tls-verify=false "oci:$work/five:1" "docker://127.0.0.1:$port/five:1"
    preparation dhow <<END
rm -rf $DHOW_ROOT && sync
END
    row dhow "dhow pull --quiet 127.0.0.1:$port/five:1"
    preparation podman <<END
$podman rmi -a -f >/dev/null 2>&1; sync
END
    row podman "$podman pull --quiet --tls-verify=false 127.0.0.1:$port/five:1"
    # skopeo unpacks nothing: it only fetches the blobs.
    preparation skopeo <<END
rm -rf $work/fetched && sync
END
    row skopeo-to-a-layout "$skopeo copy --quiet --src-tls-verify=false docker://127.0.0.1:$port/five:1 oci:$work/fetched:1"
    measure
done
