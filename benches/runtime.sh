#!/bin/sh
# The runtime alone, on one bundle, beside runc, crun and the floor: what the kernel's part of the same work takes.
. "$benches/measure.sh"
. "$benches/images.sh"
bundle
for program in floor drive; do
    gcc -O2 -static -o "$work/$program" "$benches/floor/$program.c"
done
# The bundle whose process stays, for exec.
mkdir -p "$work/staying"
ln -sfn "$work/bundle/rootfs" "$work/staying/rootfs"
jq '.process.args = ["sleep", "3600"] | .root.path = $root' --arg root "$work/bundle/rootfs" "$work/bundle/config.json" >"$work/staying/config.json"

runs=${DHOW_BENCH_RUNS:-40}
few=$((runs / 5 > 0 ? runs / 5 : 1))
runtimes='dhow-runtime runc crun'
# This shell's own cgroup in each hierarchy, as the floor takes it.
own_cgroups() {
    awk -v own="$(cat /proc/self/cgroup)" '
        BEGIN { count = split(own, lines, "\n"); for (i = 1; i <= count; i++) { split(lines[i], field, ":"); path[field[2]] = field[3] } }
        {
            for (i = 7; $i != "-"; i++);
            kind = $(i + 1); options = "," $NF ","; below = ""; mark = ""
            if (kind == "cgroup2") { below = path[""]; mark = "2:" }
            else if (kind == "cgroup") { for (names in path) { split(names, name, ","); if (names != "" && index(options, "," name[1] ",")) below = path[names] } }
            else next
            print mark $5 (below == "/" ? "" : below)
        }' /proc/self/mountinfo | tr '\n' ' '
}
cgroups=$(own_cgroups)

# crun goes where it does not see the v2 tree.
of() {
    inside=
    [ "$1" != crun ] || inside=$benches/without-unified.sh
}

# How many system calls a command and its children make.
calls_of() {
    timeout 60 $inside strace -f -c -o "$work/calls" "$@" </dev/null >/dev/null 2>&1 && awk 'END { print $4 }' "$work/calls"
}

table runtime '`run` of `true`: dhow-runtime beside runc, crun and the floor, the same bundle' "$runs"
for runtime in $runtimes; do
    of "$runtime"
    row "$runtime" "$runtime --root $work/$runtime run --bundle $work/bundle bench"
done
inside=
row floor "$work/floor run $work/bundle/rootfs bench $cgroups-- /bin/true"
measure

table runtime-life '`create`, `start`, the end of the process, `delete`' "$runs"
for runtime in $runtimes; do
    of "$runtime"
    row "$runtime" "$work/drive life $runtime $work/bundle bench --root $work/$runtime"
done
inside=
measure

# A container of each runtime's stays; exec goes into it.
for runtime in $runtimes; do
    of "$runtime"
    $inside "$work/drive" peak "$runtime" --root "$work/$runtime-staying" run --detach --bundle "$work/staying" --pid-file "$work/$runtime.pid" "staying-$runtime" >/dev/null </dev/null 2>/dev/null || :
done
table runtime-exec '`exec` of `true` in a running container' "$runs"
for runtime in $runtimes; do
    of "$runtime"
    row "$runtime" "$runtime --root $work/$runtime-staying exec staying-$runtime true"
done
inside=
staying_cgroups=
for place in $cgroups; do
    staying_cgroups="$staying_cgroups$place/staying-dhow-runtime "
done
row floor "$work/floor exec $(cat "$work/dhow-runtime.pid") $staying_cgroups-- /bin/true"
measure
# shellcheck disable=SC2086 # a list of directories
calls_of "$work/floor" exec "$(cat "$work/dhow-runtime.pid")" $staying_cgroups-- /bin/true >"$work/floor.exec-calls"
for runtime in $runtimes; do
    of "$runtime"
    calls_of "$runtime" --root "$work/$runtime-staying" exec "staying-$runtime" true >"$work/$runtime.exec-calls" || echo - >"$work/$runtime.exec-calls"
    $inside "$runtime" --root "$work/$runtime-staying" delete --force "staying-$runtime" || :
done

for at_a_time in 1 4; do
    table "runtime-100-by-$at_a_time" "100 containers, $at_a_time at a time" "$few"
    for runtime in $runtimes; do
        of "$runtime"
        row "$runtime" "$work/drive many 100 $at_a_time $runtime --root $work/$runtime run --bundle $work/bundle bench-%"
    done
    inside=
    row floor "$work/drive many 100 $at_a_time $work/floor run $work/bundle/rootfs bench-% $cgroups-- /bin/true"
    measure
done

# What does not change from run to run: peak memory, system calls, size.
: >"$results/runtime-costs.tsv"
costs() {
    name=$1
    file=$2
    shift 2
    peak=$(timeout 60 $inside "$work/drive" peak "$@" </dev/null) || peak=-
    run=$(calls_of "$@") || run=-
    libraries=$(ldd "$file" 2>/dev/null | grep -c '=>' || :)
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$peak" "$run" "$(cat "$work/$name.exec-calls")" "$(stat -L -c %s "$file")" "$libraries" >>"$results/runtime-costs.tsv"
}
for runtime in $runtimes; do
    of "$runtime"
    costs "$runtime" "$(command -v "$runtime")" "$runtime" --root "$work/$runtime" run --bundle "$work/bundle" bench
done
inside=
# shellcheck disable=SC2086 # a list of directories
costs floor "$work/floor" "$work/floor" run "$work/bundle/rootfs" bench $cgroups-- /bin/true
# The floor's directories are many and say nothing.
sed -i "s#$(echo "$staying_cgroups" | sed "s#$work#\$W#g")#CGROUP... #; s#$cgroups#CGROUP... #" "$results"/runtime*.commands
