# Read by layers.sh: three images with this machine's own files in them, as OCI layouts in $place/images/SHAPE. Tag 1 is the image, tag 2
# the same with another layer on top in place of its own.
# shellcheck shell=sh

# The regular files of /usr in one order, with their sizes: own_files FIND-TESTS...
own_files() {
    find /usr -xdev -type f "$@" -printf '%s %p\n' 2>/dev/null | LC_ALL=C sort -k 2
}

# Writes layer NUMBER of a shape: the files of the list on standard input, tar and gzip, as `tar -czf` would.
layer() {
    into=$place/images/$1/layer-$2
    mkdir -p "$place/images/$1"
    tar --no-recursion --owner=0 --group=0 --numeric-owner -cf "$into.tar" -T - 2>/dev/null || :
    compress "$into" &
    # Two at a time.
    [ $(($2 % 2)) = 0 ] || wait
}

compress() {
    sha256sum <"$1.tar" | cut -c -64 >"$1.diff-id"
    gzip -6 -n <"$1.tar" >"$1.gz"
    rm "$1.tar"
}

# Gathers layers to an image with a tag: image SHAPE TAG LAYER-NUMBER...
image() (
    cd "$place/images/$1"
    tag=$2
    shift 2
    mkdir -p blobs/sha256
    keep() {
        digest=$(sha256sum <"$1" | cut -c -64)
        ln -f "$1" "blobs/sha256/$digest"
        printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$digest" "$(stat -c %s "$1")"
    }
    for number in "$@"; do
        keep "layer-$number.gz" application/vnd.oci.image.layer.v1.tar+gzip
        echo "\"sha256:$(cat "layer-$number.diff-id")\"" >&3
    done >layers.json 3>diff-ids.json
    jq -cn --slurpfile diffs diff-ids.json '{architecture: $architecture, os: "linux", config: {}, rootfs: {type: "layers", diff_ids: $diffs}}' \
        --arg architecture "$(dpkg --print-architecture)" >config.json
    config=$(keep config.json application/vnd.oci.image.config.v1+json)
    jq -cn --slurpfile layers layers.json --argjson config "$config" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: $layers}' >manifest.json
    manifest=$(keep manifest.json application/vnd.oci.image.manifest.v1+json)
    rm config.json manifest.json
    echo '{"imageLayoutVersion":"1.0.0"}' >oci-layout
    [ -f index.json ] || echo '{"schemaVersion":2,"manifests":[]}' >index.json
    jq -c --argjson manifest "$manifest" --arg tag "$tag" '.manifests += [$manifest + {annotations: {"org.opencontainers.image.ref.name": $tag}}]' index.json >index.new
    mv index.new index.json
)

# For awk: writes a path to a layer's list, after the directories above it.
entry='
    function entry(list, path,    part, count, above, i) {
        count = split(path, part, "/")
        above = ""
        for (i = 2; i < count; i++) {
            above = above "/" part[i]
            if (!((list, above) in listed)) { listed[list, above]; print above > list }
        }
        print path > list
    }'

# Lists of files of about so many bytes each: cut_lists COUNT BYTES; list-N in $place.
cut_lists() {
    awk -v to="$place/list-" -v count="$1" -v bytes="$2" "$entry"'
        n + 0 < count { entry(to (n + 0), substr($0, index($0, " ") + 1)); sum += $1; if (sum > bytes) { sum = 0; n++ } }'
}

layered() {
    shape=$1 count=$2 bytes=$3
    own_files -size -"$4" | cut_lists $((count + 1)) "$bytes"
    for number in $(seq 0 "$count"); do
        layer "$shape" "$number" <"$place/list-$number"
    done
    wait
    rm "$place"/list-*
    # shellcheck disable=SC2046 # numbers
    image "$shape" 1 $(seq 0 $((count - 1)))
    # shellcheck disable=SC2046
    image "$shape" 2 $(seq 0 $((count - 2))) "$count"
}

shape_five() {
    layered five 5 40000000 8192k
}

shape_forty() {
    layered forty 40 1000000 512k
}

# 20,000 files: 19,400 small ones, and large ones that make it some 400 MB. DHOW_BENCH_FILES=400 makes it small, to try the scripts.
shape_many() {
    own_files -size +0 -size -4096k | awk -v list="$place/list" -v files="${DHOW_BENCH_FILES:-20000}" "$entry"'
        function name() { return substr($0, index($0, " ") + 1) }
        $1 < 32768 && small < files * 0.97 { small++; entry(list, name()); next }
        $1 >= 131072 && large < files / 20 && bytes < files * 15000 { large++; bytes += $1; entry(list, name()) }'
    layer many 0 <"$place/list"
    wait
    rm "$place/list"
    image many 1 0
}

# The layers' blobs of a shape's first image, lowest first.
blobs_of() {
    manifest=$(jq -r '.manifests[0].digest[7:]' "$place/images/$1/index.json")
    jq -r --arg place "$place/images/$1/blobs/sha256/" '.layers[].digest | $place + .[7:]' "$place/images/$1/blobs/sha256/$manifest" | tr '\n' ' ' | sed 's/ $//'
}

# The same, as they lie in the registry that is pulled from.
urls_of() {
    for blob in $(blobs_of "$1"); do printf 'http://%s/v2/%s/blobs/sha256:%s ' "$there" "$1" "${blob##*/}"; done
}

files_of() {
    # shellcheck disable=SC2046 # paths
    for blob in $(blobs_of "$1"); do tar -tzf "$blob"; done | grep -vc '/$'
}

# What the image is, in words.
described() {
    # shellcheck disable=SC2046
    set -- "$1" $(blobs_of "$1")
    shape=$1
    shift
    compressed=$(cat "$@" | wc -c)
    whole=$(for blob in "$@"; do gzip -dc "$blob"; done | wc -c)
    echo "$# x $((whole / $# / 1000000)) MB, $(files_of "$shape") files, $((compressed / 1000000)) MB compressed"
}
