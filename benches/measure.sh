# Read by the topics. A topic opens a table, adds its rows, and measures it:
#   table ID 'Title' RUNS
#   row NAME 'command'              run as it is, without a shell
#   measure
# The rows take turns in rounds, so that what else the machine does falls on all of them; and each is measured back to back and with
# 100 ms between runs, when the kernel has gone to rest (joining a cgroup through cgroup.procs costs milliseconds then).
# shellcheck shell=sh
set -eu
rounds=4
pauses='0 0.1'
# Runs of each row that are not counted.
warmup=1

table() {
    id=$1
    runs=$3
    : >"$work/$id.rows"
    printf '%s\n' "$2" >"$results/$id.title"
}

# Makes of what it reads a preparation that is not measured; rows have it from here on, until before= is emptied.
preparation() {
    before=$work/before-$id-$1
    { echo '#!/bin/sh'; cat; } >"$before"
    chmod +x "$before"
}

# A row may have a preparation (before), and something to run under (inside).
row() {
    # The peers can be left out.
    case ${DHOW_BENCH_PEERS:-},$1 in none,dhow* | none,floor*) ;; none,*) return 0 ;; esac
    printf '%s|%s|%s|%s\n' "$1" "${before:-}" "${inside:-}" "$2" >>"$work/$id.rows"
    printf '%s\t%s\n' "$1" "$2" | sed "s#$work#\$W#g; s#$programs/##g" >>"$results/$id.commands"
}

measure() {
    echo "== $(cat "$results/$id.title")"
    for pause in $pauses; do
        for round in $(seq "$rounds"); do
            while IFS='|' read -r name before inside command <&3; do
                measure_row
            done 3<"$work/$id.rows"
        done
    done
}

measure_row() {
    # What failed once is not tried again.
    ! grep -qx "$name" "$results/$id.failed" 2>/dev/null || return 0
    set -- hyperfine --shell=none --style none --warmup "$([ "$round" = 1 ] && echo "$warmup" || echo 0)" --runs $(((runs + rounds - 1) / rounds)) \
        --export-json "$results/$id.$pause.$name.$round.json"
    case $pause,$before in
    0,) ;;
    0,*) set -- "$@" --prepare "$before" ;;
    *,) set -- "$@" --prepare "sleep $pause" ;;
    *) set -- "$@" --prepare "sh -c '$before && sleep $pause'" ;;
    esac
    # shellcheck disable=SC2086 # the program to run under, and its arguments
    if ! timeout 600 $inside "$@" "$command" </dev/null >"$work/said" 2>&1; then
        echo "$id: $name failed: $command" >&2
        tail -n 5 "$work/said" >&2
        # What the program itself said.
        sh -c "$command" </dev/null 2>&1 >/dev/null | tail -n 5 >&2 || :
        printf '%s\n' "$name" >>"$results/$id.failed"
    fi
}
