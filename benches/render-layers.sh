#!/bin/sh
# Turns what layers.sh measured into its part of benches/RESULTS.md, on standard output: a table for each image, a row for each thing done.
set -eu
[ -f "$results/layers.shapes" ] || exit 0
printf '\n## Layers there and back: push and pull beside skopeo, podman, ctr and the floor\n\n'
printf 'All on one tmpfs, the registry (docker-registry) on loopback in a network namespace of its own. Medians back to back, the fastest in\n'
printf 'brackets, and how many times dhow takes of it (0.20 is a fifth). "Second core": what two threads take of the time of one alone with the\n'
printf 'same work each; 1.0 means that it was free, 2.0 that it was not.\n'

# The median of a row, its fastest run, and dhow's part of it.
cell() {
    cat "$results/$1.0.$2".*.json 2>/dev/null | jq -s -r --slurpfile dhow "$work/dhow-times" '
        def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2] + .[length / 2 - 1]) / 2 end;
        def shown: if . >= 1 then "\(. * 100 | round / 100) s" else "\(. * 10000 | round / 10) ms" end;
        [.[].results[].times[]] | if length == 0 then "-" else
            "\(median | shown) (\(min | shown))" + (if $other == "" or ($dhow[0] | length) == 0 then "" else
                ": \(($dhow[0] | median) / median * 100 | round / 100)" end) end' --arg other "$3"
}

while IFS="$(printf '\t')" read -r shape described <&3; do
    printf '\n### %s\n\n| | dhow | skopeo | podman | ctr | floor, 1 thread | floor, 2 threads | the same, fetched | dhow, embedded registry | second core |\n|---|---|---|---|---|---|---|---|---|---|\n' "$described"
    awk -F'\t' -v shape="$shape" '$1 == shape { print $2 }' "$results/layers.operations" | while read -r id; do
        [ "$id" != layers-many-pull-ext4 ] || continue
        printf '| %s ' "$(cat "$results/$id.title")"
        { cat "$results/$id.0.dhow".*.json 2>/dev/null || :; } | jq -s '[.[].results[].times[]]' >"$work/dhow-times"
        printf '| %s ' "$(cell "$id" dhow '')"
        for peer in skopeo podman ctr floor-1 floor-2 floor-2-fetched dhow-embedded; do
            if grep -q "^$peer	" "$results/$id.commands"; then printf '| %s ' "$(cell "$id" "$peer" other)"; else printf '| '; fi
        done
        printf '| %s |\n' "$(sort -n "$results/$id.cores" | sed -n '1p;$p' | tr '\n' ' ' | sed 's/ $//; s/ / to /')"
    done
    printf '\n| requests, and bytes over loopback with their headers | dhow | skopeo | podman | ctr |\n|---|---|---|---|---|\n'
    awk -F'\t' -v shape="$shape" '$1 == shape { print $2 }' "$results/layers.operations" | while read -r id; do
        [ -f "$results/$id.traffic" ] || continue
        printf '| %s ' "$(cat "$results/$id.title")"
        for peer in dhow skopeo podman ctr; do
            awk -F'\t' -v peer="$peer" '$1 == peer { found = sprintf("%d, %.1f kB", $2, $3 / 1000) } END { printf "| %s ", found == "" ? "-" : found }' "$results/$id.traffic"
        done
        printf '|\n'
    done
done 3<"$results/layers.shapes"

ext4=layers-many-pull-ext4
if [ -f "$results/$ext4.title" ]; then
    printf '\n### The same image of many files: %s\n\n| | time |\n|---|---|\n' "$(cat "$results/$ext4.title")"
    { cat "$results/$ext4.0.dhow".*.json 2>/dev/null || :; } | jq -s '[.[].results[].times[]]' >"$work/dhow-times"
    for row in dhow tar-and-sync floor-1 floor-2; do
        other=$row
        [ "$row" != dhow ] || other=
        printf '| %s | %s |\n' "$row" "$(cell "$ext4" "$row" "$other")"
    done
    printf '\nEach but dhow ends with `sync -f` (syncfs); dhow syncs the same way, and its records and names besides.\n'
fi
if [ -s "$results/layers.costs" ]; then
    printf '\n### What the pull into an empty store takes besides time\n\n| image | | peak memory of a process | system calls | of them for each file |\n|---|---|---|---|---|\n'
    awk -F'\t' '{
        memory = $3 == "-" ? "-" : sprintf("%.1f MiB", $3 / 1024)
        printf "| %s | %s | %s | %s | %s |\n", $1, $2, memory, $4, $4 == "-" || $5 == 0 ? "" : sprintf("%.1f", $4 / $5)
    }' "$results/layers.costs"
    printf '\nPeak memory by wait4(2), of ctr its daemon'"'"'s; system calls by `strace -f -c`. tar is `tar -xzf` of the blob, which checks no digest.\n'
fi
[ ! -f "$benches/notes/layers.md" ] || { echo; cat "$benches/notes/layers.md"; }
