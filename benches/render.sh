#!/bin/sh
# Turns what hyperfine measured (JSON in $results) into benches/RESULTS.md, on standard output.
set -eu
processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
cgroups='v1'
if grep -q ' /sys/fs/cgroup/unified ' /proc/self/mountinfo; then
    cgroups='hybrid (v1 controllers, a v2 tree beside them)'
elif [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    cgroups='v2'
fi
cat <<END
# Measured

Written by \`make bench\` on $(date -u +%Y-%m-%d), from a real run; benches/README.md tells how.
Machine: $(nproc) processors ($processor), Linux $(uname -r), cgroups $cgroups, load $(cut -d' ' -f1 /proc/loadavg) at the end.
Peers: $(for package in runc crun podman buildah skopeo containerd docker-registry; do
    printf '%s %s, ' "$package" "$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null || echo missing)"
done | sed 's/, $//').

Times are medians, with the fastest run in brackets. "dhow is" compares the medians: 3.0 x means that the peer takes three times as long.
The floor is a bare program (benches/floor/floor.c) that has the kernel make the same and does nothing else; "1.2 x of it" is what dhow takes of its time.
END
# What a `run` takes besides time.
costs() {
    printf '\n## What a `run` takes besides time\n\n| | peak memory of a process | system calls of `run` | of `exec` | size of the program | shared libraries |\n|---|---|---|---|---|---|\n'
    awk -F'\t' '{
        memory = $2 == "-" ? "did not run" : sprintf("%.2f MiB", $2 / 1024)
        printf "| %s | %s | %s | %s | %.2f MiB | %s |\n", $1, memory, $3 == "-" ? "did not run" : $3, $4 == "-" ? "did not run" : $4, $5 / 1048576, $6 == 0 ? "none" : $6
    }' "$results/runtime-costs.tsv"
    printf '\nPeak memory by wait4(2), system calls by `strace -f -c`, those of `true` itself (16) among them.\n'
    [ ! -f "$benches/notes/runtime-costs.md" ] || { echo; cat "$benches/notes/runtime-costs.md"; }
}
for id in runtime runtime-life runtime-exec runtime-100-by-1 runtime-100-by-4 runtime-costs run-container build-cold build-unchanged push-fresh push push-embedded pull pull-embedded; do
    if [ "$id" = runtime-costs ] && [ -f "$results/$id.tsv" ]; then
        costs
        continue
    fi
    [ -f "$results/$id.title" ] || continue
    printf '\n## %s\n\n| | back to back | dhow is | with 100 ms between runs | dhow is |\n|---|---|---|---|---|\n' "$(cat "$results/$id.title")"
    first=$(head -n 1 "$results/$id.commands" | cut -f1)
    cut -f1 "$results/$id.commands" | while read -r name; do
        printf '| %s ' "$name"
        for pause in 0 0.1; do
            all_times() { cat "$results/$id.$pause.$1".*.json 2>/dev/null | jq -s '[.[].results[].times[]]'; }
            jq -nr --argjson own "$(all_times "$name")" --argjson dhow "$(all_times "$first")" --arg is_dhow "$([ "$name" = "$first" ] && echo yes || :)" --arg floor "$([ "$name" = floor ] && echo yes || :)" '
                def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2] + .[length / 2 - 1]) / 2 end;
                def shown: if . >= 1 then "\(. * 100 | round / 100) s" else "\(. * 100000 | round / 100) ms" end;
                "| " + (if ($own | length) == 0 then "did not run" else "\($own | median | shown) (\($own | min | shown))" end)
                + " | " + (if $is_dhow != "" or ($own | length) == 0 or ($dhow | length) == 0 then ""
                    elif $floor != "" then "\(($dhow | median) / ($own | median) * 100 | round / 100) x of it"
                    else "\(($own | median) / ($dhow | median) * 10 | round / 10) x" end) + " "' |
                tr -d '\n'
        done
        printf '|\n'
    done
    printf '\n```\n'
    awk -F'\t' '{ printf "%-14s %s\n", $1, $2 }' "$results/$id.commands"
    printf '```\n'
    # What is to be said of it: what the target was, and why it was missed.
    [ ! -f "$benches/notes/$id.md" ] || { echo; cat "$benches/notes/$id.md"; }
done
"$benches/render-layers.sh"
cat <<END

\$W is the place of the run, a directory of its own on $(findmnt -n -o FSTYPE -T "$work"); the podman and buildah commands are written with all their flags.
END
