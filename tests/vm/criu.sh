# Checks of checkpoint and restore, with the distribution's criu: on this kernel, as on most machines, it works. Read by checks.sh.
# vm-modes: v2 v1
# vm-programs: criu tar script
# vm-modules: unix_diag inet_diag tcp_diag udp_diag raw_diag af_packet_diag netlink_diag tun veth nf_tables nf_conntrack_netlink
# shellcheck shell=sh

# The container counts into a file of the host's and into its memory.
counting='n=0; while :; do n=$((n + 1)); echo "$n" >/var/www/NAME.new; mv /var/www/NAME.new /var/www/NAME.count; sleep 0.2; done'

count() { cat "/data/files/$1.count"; }

# Waits until the count of $1 is over $2.
await_count() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ "$(count "$1" 2>/dev/null || echo 0)" -le "$2" ] || return 0
        sleep 0.5
    done
    fail "it counts no more: $(count "$1"), after $2"
}

counter() { detach "$1" "$2" "$(echo "$counting" | sed "s/NAME/$1/g")"; }

# What criu itself says when it could not.
checkpoint() {
    rt checkpoint --image-path "/data/images-$1" "$@" || { tail -n 15 "/data/images-$1/dump.log"; return 1; }
}

restore() {
    rt restore --detach --image-path "/data/images-$1" --bundle "/data/bundles/$1" --pid-file "/data/$1.pid" "$1" </dev/null >/dev/null 2>/tmp/restore-said ||
        { cat /tmp/restore-said; tail -n 15 "/data/images-$1/restore.log"; return 1; }
}

status_is() { holds "$(rt state "$1")" "\"status\": \"$2\""; }

criu_works_here() { criu check; }

criu_saves_and_restores() {
    counter kept ''
    await_count kept 3
    checkpoint kept
    ! rt state kept 2>/dev/null || fail "it is still there"
    [ -z "$(cgroup_directories kept)" ] || fail "a cgroup is left: $(cgroup_directories kept)"
    saved=$(count kept)
    sleep 1
    [ "$(count kept)" = "$saved" ] || fail "it counts on"
    restore kept
    status_is kept running
    [ "$(cat /data/kept.pid)" = "$(rt state kept | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')" ] || fail "the pid file: $(cat /data/kept.pid)"
    await_count kept $((saved + 2))
    # Not from the beginning, and it is a container like any other.
    holds "$(rt exec kept hostname)" inside
    rt pause kept
    status_is kept paused
    rt resume kept
    rt kill kept KILL
    sleep 1
    status_is kept stopped
    rt delete kept
    [ -z "$(cgroup_directories kept)" ] || fail "a cgroup is left: $(cgroup_directories kept)"
    ! grep criu-root /proc/mounts || fail "a mount is left"
}

criu_leaves_running() {
    counter left ''
    await_count left 2
    checkpoint left --leave-running
    status_is left running
    await_count left $(($(count left) + 2))
    rt delete --force left
    # And what was saved goes on beside what went on.
    restore left
    status_is left running
    await_count left 2
    rt delete --force left
}

criu_restores_limits() {
    counter limited '"memory": { "limit": 67108864 }, "pids": { "limit": 17 }'
    await_count limited 2
    checkpoint limited
    restore limited
    said=$(rt exec limited sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null; exit 0')
    rt exec limited cat /proc/1/cgroup
    procs=$(find /sys/fs/cgroup -path '*/dhow-vm/limited/cgroup.procs' -exec cat {} + | sort -u)
    pid=$(cat /data/limited.pid)
    rt delete --force limited
    holds "$said" 67108864
    holds "$said" 17
    holds " $(echo "$procs" | tr '\n' ' ')" " $pid "
}

criu_saves_memory_before() {
    counter before ''
    await_count before 2
    rt checkpoint --pre-dump --image-path /data/images-before/1 before || { tail -n 15 /data/images-before/1/dump.log; return 1; }
    status_is before running
    await_count before $(($(count before) + 1))
    rt checkpoint --image-path /data/images-before/2 --parent-path ../1 --work-path /data/work-before before || { tail -n 15 /data/work-before/dump.log; return 1; }
    [ -e /data/work-before/dump.log ] || fail "no log in the work directory"
    saved=$(count before)
    rt restore --detach --image-path /data/images-before/2 --bundle /data/bundles/before before </dev/null >/dev/null 2>&1
    await_count before "$saved"
    rt delete --force before
}

criu_restores_in_the_foreground() {
    bundle front '' 'n=0; while [ $n -lt 60 ]; do n=$((n + 1)); sleep 0.1; done; echo counted $n; exit 9'
    rt run -d --bundle /data/bundles/front front </dev/null 2>&1 | cat >/tmp/front-said &
    sleep 2
    checkpoint front
    status=0
    said=$(rt restore --image-path /data/images-front --bundle /data/bundles/front front </dev/null) || status=$?
    [ "$status" = 9 ] || fail "status $status: $said $(tail -n 15 /data/images-front/restore.log)"
    holds "$said" 'counted 60'
    ! rt state front 2>/dev/null || fail "it is still there"
}

# The memory goes to another directory (of another machine, as it were) while the rest is saved here.
criu_sends_memory_to_a_page_server() {
    counter sent ''
    await_count sent 2
    mkdir -p /data/images-pages
    criu page-server --images-dir /data/images-pages --address 127.0.0.1 --port 9876 >/tmp/page-server 2>&1 &
    server=$!
    sleep 1
    checkpoint sent --page-server 127.0.0.1:9876 || fail "$(cat /tmp/page-server)"
    wait "$server" || fail "$(cat /tmp/page-server)"
    [ -z "$(ls /data/images-sent | grep '^pages-')" ] || fail "the memory is here: $(ls /data/images-sent)"
    saved=$(count sent)
    cp /data/images-pages/page* /data/images-sent/
    restore sent
    await_count sent "$saved"
    rt delete --force sent
}

# The container goes on before its memory is there: it is fetched page by page from the process that saved it.
criu_restores_before_the_memory_is_there() {
    criu check --feature uffd-noncoop || return 0
    counter lazy ''
    await_count lazy 2
    mkfifo /tmp/lazy-ready
    rt checkpoint --lazy-pages --page-server 127.0.0.1:9877 --status-fd 7 --manage-cgroups-mode ignore --image-path /data/images-lazy lazy \
        7>/tmp/lazy-ready >/tmp/lazy-said 2>&1 &
    saving=$!
    [ "$(head -c 1 /tmp/lazy-ready | od -A n -t u1 | tr -d ' ')" = 0 ] || fail "not ready: $(cat /tmp/lazy-said) $(tail -n 15 /data/images-lazy/dump.log)"
    saved=$(count lazy)
    criu lazy-pages --page-server --address 127.0.0.1 --port 9877 --images-dir /data/images-lazy >/tmp/lazy-pages 2>&1 &
    fetching=$!
    # The one that is saved has its cgroup until its last page is gone.
    mkdir -p /data/bundles/eager
    sed 's|/dhow-vm/lazy|/dhow-vm/eager|' /data/bundles/lazy/config.json >/data/bundles/eager/config.json
    rt restore --detach --lazy-pages --manage-cgroups-mode ignore --image-path /data/images-lazy --work-path /data/images-lazy --bundle /data/bundles/eager eager \
        </dev/null >/dev/null 2>/tmp/lazy-restored || fail "$(cat /tmp/lazy-restored) $(tail -n 15 /data/images-lazy/restore.log) $(cat /tmp/lazy-pages)"
    await_count lazy "$saved"
    wait "$saving" || fail "$(cat /tmp/lazy-said) $(tail -n 15 /data/images-lazy/dump.log)"
    wait "$fetching" || fail "$(cat /tmp/lazy-pages)"
    ! rt state lazy 2>/dev/null || fail "it is still there"
    status_is eager running
    [ "$(rt exec eager hostname)" = inside ] || fail "no exec"
    rt delete --force eager
    [ -z "$(cgroup_directories lazy)$(cgroup_directories eager)" ] || fail "a cgroup is left"
}

# Waits for a line in a file. usage: await_line FILE LINE
await_line() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        ! grep -q "$2" "$1" || return 0
        sleep 0.5
    done
    fail "no $2 in: $(cat "$1")"
}

# What a person types in the terminal that /bin/script makes is answered before and after.
criu_saves_a_terminal() {
    process='"terminal": true,' bundle typed '' 'echo begun; while read -r line; do echo "heard $line"; stty size; done'
    sed -i 's|{ "destination": "/tmp"|{ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }, &|' \
        /data/bundles/typed/config.json
    mkfifo /tmp/typed-in
    # Held open, or the first line would be the last.
    exec 8<>/tmp/typed-in
    /bin/script -qfc "$runtime --root /run/runtime run --bundle /data/bundles/typed typed" /tmp/typed-first </tmp/typed-in >/dev/null 2>&1 &
    await_line /tmp/typed-first begun
    echo one >&8
    await_line /tmp/typed-first 'heard one'
    checkpoint typed
    ! rt state typed 2>/dev/null || fail "it is still there"
    /bin/script -qfc "$runtime --root /run/runtime restore --image-path /data/images-typed --bundle /data/bundles/typed typed" /tmp/typed-second </tmp/typed-in >/dev/null 2>&1 &
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ! rt state typed 2>/dev/null | grep -q running || break
        sleep 0.5
    done
    status_is typed running
    echo two >&8
    await_line /tmp/typed-second 'heard two' || fail "$(tail -n 15 /data/images-typed/restore.log)"
    ! grep -q begun /tmp/typed-second || fail "from the beginning: $(cat /tmp/typed-second)"
    rt delete --force typed
}

criu_refuses_clearly() {
    counter refused ''
    await_count refused 1
    ! said=$(rt --criu /no/criu checkpoint --image-path /data/images-refused refused 2>&1) || fail "done without criu"
    holds "$said" 'cannot find the program /no/criu'
    ! said=$(rt checkpoint --parent-path /absolute --image-path /data/images-refused refused 2>&1) || fail "an absolute parent"
    holds "$said" 'must be relative'
    status_is refused running
    rt kill refused KILL
    sleep 1
    ! said=$(rt checkpoint --image-path /data/images-refused refused 2>&1) || fail "saved when stopped"
    holds "$said" 'cannot be checkpointed in stopped state'
    rt delete refused
    ! said=$(rt restore --detach --image-path /data/images-none --bundle /data/bundles/refused refused 2>&1) || fail "restored from nothing"
    holds "$said" /data/images-none
    ! rt state refused 2>/dev/null || fail "it is there"
}

check criu_works_here criu_saves_and_restores criu_leaves_running criu_restores_limits criu_saves_memory_before criu_restores_in_the_foreground \
    criu_sends_memory_to_a_page_server criu_restores_before_the_memory_is_there criu_saves_a_terminal criu_refuses_clearly
