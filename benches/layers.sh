#!/bin/sh
# Layers there and back: push and pull of three images, beside skopeo, podman, ctr and the floor, with Debian's docker-registry. Everything
# lies on one tmpfs, so that no disk takes part, and happens in a network namespace of its own, in which nobody else's bytes are counted.
if [ -z "${DHOW_BENCH_ALONE:-}" ]; then DHOW_BENCH_ALONE=yes exec unshare -n "$0" "$@"; fi
. "$benches/measure.sh"
. "$benches/images.sh"
. "$benches/shapes.sh"
busybox ip link set lo up
place=$work/layers
mkdir -p "$place"
mount -t tmpfs -o size=14g,mode=755 tmpfs "$place"
export place
# What the peers put aside stays here too.
export TMPDIR="$place"
gcc -O2 -static -o "$place/drive" "$benches/floor/drive.c"

# The same moment for everybody: no pauses, nothing is run to be forgotten, and each round takes a row once.
pauses=0 warmup=0
runs=$((${DHOW_BENCH_RUNS:-40} / 10 > 3 ? ${DHOW_BENCH_RUNS:-40} / 10 : 3))
rounds=$runs
here=127.0.0.1:5000   # what is pushed to
there=127.0.0.1:5001  # what is pulled from

dhow="dhow --root $place/dhow --state $place/dhow-state"
skopeo="skopeo --tmpdir $place"
podman="podman --root $place/podman --runroot $place/podman-run --tmpdir $place/podman-tmp --cgroup-manager cgroupfs --events-backend file --runtime $(command -v runc)"
ctr="ctr --address $place/containerd.sock --namespace bench"
# Only dhow and the floor are measured where the peers are not wanted.
peers=${DHOW_BENCH_PEERS:-podman ctr tar}
[ "$peers" != none ] || peers=
case " $peers " in *' ctr '*) "$benches/containerd.sh" ;; esac

# A registry that counts requests writes a line for each; while time is measured it writes none.
"$benches/layers-registry.sh" there 5001 empty

# How free the second core was: 1.0 is free, 2.0 is taken.
control() {
    dhow-bench-floor cores >>"$results/$id.cores"
}

# One more run of a row, in which bytes and requests are counted: count ROW REGISTRY PORT CONTENT COMMAND...
count() {
    name=$1 registry=$2 port=$3 content=$4
    shift 4
    "$benches/layers-registry.sh" "$registry" "$port" "$content" counted
    before_bytes=$(awk '$1 == "lo:" { print $10 }' /proc/net/dev)
    if timeout 120 "$@" >"$work/said" 2>&1 </dev/null; then
        after_bytes=$(awk '$1 == "lo:" { print $10 }' /proc/net/dev)
        printf '%s\t%s\t%s\n' "$name" "$(grep -c ' HTTP/1.1" ' "$place/$registry.log" || :)" $((after_bytes - before_bytes)) >>"$results/$id.traffic"
    fi
    "$benches/layers-registry.sh" "$registry" "$port" kept
}

# Opens the table of one thing that is done to one image.
operation() {
    before=
    table "layers-$1-$2" "$3" "$runs"
    printf '%s\t%s\n' "$1" "$id" >>"$results/layers.operations"
    control
}

pushes() {
    shape=$1
    for number in 1 2; do
        $dhow pull --quiet "$there/$shape:$number" >/dev/null
        $dhow tag "$there/$shape:$number" "$here/$shape:$number"
        [ -n "$peers" ] || continue
        # A peer that cannot do it here has rows that do not run, and the others' stand.
        { $podman pull --quiet --tls-verify=false "$there/$shape:$number" >/dev/null && $podman tag "$there/$shape:$number" "$here/$shape:$number"; } || :
        { $ctr images pull --plain-http "$there/$shape:$number" && $ctr images tag --force "$there/$shape:$number" "$here/$shape:$number"; } >/dev/null || :
        # Where nothing but the top layer could be the same, nothing can be saved.
        [ "$shape" != many ] || break
    done

    operation "$shape" push-empty 'push to an empty registry'
    push_rows 1 empty
    operation "$shape" push-unchanged 'push with nothing changed'
    push_rows 1 with-one
    [ "$shape" = many ] || {
        operation "$shape" push-changed 'push with the top layer changed'
        push_rows 2 with-one
    }
}

push_rows() {
    number=$1 content=$2
    if [ "$content" = with-one ]; then
        "$benches/layers-registry.sh" here 5000 empty
        $skopeo copy --quiet --dest-tls-verify=false "oci:$place/images/$shape:1" "docker://$here/$shape:1"
        rm -rf "$place/with-one"
        cp -a "$place/here" "$place/with-one"
    fi
    preparation any <<END
$benches/layers-registry.sh here 5000 $content
END
    row dhow "$dhow push --quiet $here/$shape:$number"
    row skopeo "$skopeo copy --quiet --dest-tls-verify=false oci:$place/images/$shape:$number docker://$here/$shape:$number"
    # It compresses its layers again for each push; once is enough to see that.
    [ "$shape,$content" = many,empty ] || row podman "$podman push --quiet --tls-verify=false $here/$shape:$number"
    row ctr "$ctr images push --plain-http $here/$shape:$number"
    measure
    control
    while IFS='|' read -r name before inside command <&3; do
        # shellcheck disable=SC2086 # a command and its arguments
        count "$name" here 5000 "$content" $command
    done 3<"$work/$id.rows"
}

pulls() {
    shape=$1
    blobs=$(blobs_of "$shape")
    "$benches/layers-registry.sh" there 5001 kept
    operation "$shape" pull-empty 'pull into an empty store, unpacked'
    preparation dhow <<END
rm -rf $place/dhow
END
    row dhow "$dhow pull --quiet $there/$shape:1"
    preparation podman <<END
$podman rmi --all --force >/dev/null 2>&1 || :
END
    row podman "$podman pull --quiet --tls-verify=false $there/$shape:1"
    preparation ctr <<END
$ctr images ls --quiet | xargs -r $ctr images rm --sync >/dev/null
END
    row ctr "$ctr images pull --plain-http $there/$shape:1"
    preparation floor <<END
rm -rf $place/floor
END
    row floor-1 "dhow-bench-floor unpack 1 $place/floor $blobs"
    row floor-2 "dhow-bench-floor unpack 2 $place/floor $blobs"
    # What the floor takes where it has to get the blobs, from a registry that needs the same processors; and dhow from one that needs less.
    row floor-2-fetched "dhow-bench-floor unpack 2 $place/floor $(urls_of "$shape")"
    "$benches/registry.sh" embedded 5002
    $skopeo copy --quiet --dest-tls-verify=false "oci:$place/images/$shape:1" "docker://127.0.0.1:5002/$shape:1"
    preparation dhow <<END
rm -rf $place/dhow
END
    row dhow-embedded "$dhow pull --quiet 127.0.0.1:5002/$shape:1"
    measure
    control
    kill "$(cat "$work/embedded.pid")"
    rm -rf "$place/floor" "$work/embedded"

    operation "$shape" pull-there 'pull with everything there'
    before=
    $skopeo copy --quiet --src-tls-verify=false "docker://$there/$shape:1" "oci:$place/copied:1"
    row dhow "$dhow pull --quiet $there/$shape:1"
    row skopeo "$skopeo copy --quiet --src-tls-verify=false docker://$there/$shape:1 oci:$place/copied:1"
    row podman "$podman pull --quiet --tls-verify=false $there/$shape:1"
    row ctr "$ctr images pull --plain-http $there/$shape:1"
    measure
    control
    while IFS='|' read -r name before inside command <&3; do
        # shellcheck disable=SC2086
        count "$name" there 5001 kept $command
    done 3<"$work/$id.rows"
    rm -rf "$place/copied"
}

# What a pull into an empty store takes besides time: the largest process, and system calls by strace.
costs() {
    shape=$1 files=$2
    for name in dhow $peers; do
        calls=- peak=-
        case $name in
        dhow) set -- $dhow pull --quiet "$there/$shape:1" ;;
        podman) set -- $podman pull --quiet --tls-verify=false "$there/$shape:1" ;;
        ctr) set -- $ctr images pull --plain-http "$there/$shape:1" ;;
        tar) set -- tar -xzf "$(blobs_of "$shape")" -C "$place/tar" ;;
        esac
        empty_store "$name"
        [ "$name" != ctr ] || "$benches/containerd.sh"
        # It comes after what the command itself has said.
        measured=$(timeout 120 "$place/drive" peak "$@" </dev/null 2>/dev/null | tail -n 1)
        case $measured in '' | *[!0-9]*) ;; *) peak=$measured ;; esac
        [ "$name" != ctr ] || peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$(cat "$work/containerd.pid")/status")
        # Counting takes a while for who makes many calls; that a few hundred files are like 20,000 need not be believed.
        if [ "$files" -gt 0 ]; then
            empty_store "$name"
            calls=$(count_calls "$name" "$@" || echo -)
        fi
        empty_store "$name"
        printf '%s\t%s\t%s\t%s\t%s\n' "$shape" "$name" "$peak" "$calls" "$files" >>"$results/layers.costs"
    done
    rm -rf "$place/tar"
}

empty_store() {
    case $1 in
    dhow) rm -rf "$place/dhow" ;;
    podman) $podman rmi --all --force >/dev/null 2>&1 || : ;;
    ctr) $ctr images ls --quiet | xargs -r $ctr images rm --sync >/dev/null || : ;;
    tar) rm -rf "$place/tar"; mkdir "$place/tar" ;;
    esac
}

count_calls() {
    who=$1
    shift
    rm -f "$place/calls"
    if [ "$who" = ctr ]; then
        # The daemon does it.
        strace -f -c -o "$place/calls" -p "$(cat "$work/containerd.pid")" >/dev/null 2>&1 &
        tracer=$!
        sleep 1
        timeout 120 "$@" >/dev/null 2>&1 </dev/null || return 1
        kill -INT "$tracer"
        wait "$tracer" || :
    else
        timeout 120 strace -f -c -o "$place/calls" "$@" >/dev/null 2>&1 </dev/null || return 1
    fi
    awk '$NF == "total" { print $4 }' "$place/calls"
}

# The same on a real file system, where what is unpacked has to last.
ext4() {
    blob=$(blobs_of many)
    truncate -s 5G "$place/disk"
    mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$place/disk"
    mkdir "$place/ext4"
    mount -o loop "$place/disk" "$place/ext4"
    operation many pull-ext4 'pull into an empty store on ext4 (a loop device), durable'
    preparation any <<END
rm -rf $place/ext4/* && mkdir $place/ext4/tar && sync -f $place/ext4
END
    row dhow "dhow --root $place/ext4/dhow --state $place/dhow-state pull --quiet $there/many:1"
    row tar-and-sync "sh -c 'tar -xzf $blob -C $place/ext4/tar && sync -f $place/ext4'"
    row floor-1 "sh -c 'dhow-bench-floor unpack 1 $place/ext4/floor $blob && sync -f $place/ext4'"
    row floor-2 "sh -c 'dhow-bench-floor unpack 2 $place/ext4/floor $blob && sync -f $place/ext4'"
    measure
    control
    umount "$place/ext4"
    rm "$place/disk"
}

: >"$results/layers.costs"
for shape in ${DHOW_BENCH_SHAPES:-five forty many}; do
    "shape_$shape"
    for number in $(jq -r '.manifests[].annotations[]' "$place/images/$shape/index.json"); do
        $skopeo copy --quiet --dest-tls-verify=false "oci:$place/images/$shape:$number" "docker://$there/$shape:$number"
    done
    printf '%s\t%s\n' "$shape" "$(described "$shape")" >>"$results/layers.shapes"
    pushes "$shape"
    for tool in dhow $peers; do empty_store "$tool"; done
    pulls "$shape"
    case $shape in
    five) costs five 0 ;;
    many) costs many "$(files_of many)" && ext4 ;;
    esac
    for tool in dhow $peers; do empty_store "$tool"; done
    rm -rf "$place/images/$shape" "$place/here" "$place/with-one"
done
