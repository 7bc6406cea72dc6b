# Checks of real-time schedulers, for which a machine's root may lack the capability or the share. Read by checks.sh.
# vm-modes: v2
# shellcheck shell=sh

# A program's policy and priority, of which it tells in /proc: 1 is FIFO, 2 RR, 6 DEADLINE.
told_by='read -r stat </proc/self/stat; set -- ${stat##*) }; echo "policy ${39} priority ${38} nice ${17}"'

# usage: scheduled POLICY-AND-MORE (members of the JSON object)
scheduled() { process="\"scheduler\": { $1 }," contain scheduled '' "$told_by" 2>&1; }

scheduler_of_real_time_is_set() {
    holds "$(scheduled '"policy": "SCHED_FIFO", "priority": 7')" 'policy 1 priority 7'
    holds "$(scheduled '"policy": "SCHED_RR", "priority": 99')" 'policy 2 priority 99'
    # The shell forks for a look at it; who is forked is an ordinary program again.
    said=$(process='"scheduler": { "policy": "SCHED_RR", "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"] },' contain reset '' "$told_by; sh -c '$told_by'" 2>&1)
    [ "$said" = 'policy 2 priority 4 nice 0
policy 0 priority 0 nice 0' ] || fail "$said"
}

scheduler_with_deadlines_is_set() {
    detach deadlines '' 'exec sleep 100'
    process='"scheduler": { "policy": "SCHED_DEADLINE", "runtime": 10000000, "deadline": 50000000, "period": 100000000 },'
    bundle deadlined '' 'exec sleep 100'
    rt run -d --bundle /data/bundles/deadlined deadlined </dev/null >/dev/null 2>&1
    pid=$(rt state deadlined | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
    said=$(cat "/proc/$pid/sched")
    rt delete --force deadlines
    rt delete --force deadlined
    echo "$said" | grep -q 'policy *: *6' || fail "$said"
    echo "$said" | grep -q 'dl.runtime' || fail "$said"
}

# A process that is executed in the container has its own.
scheduler_of_an_executed_process() {
    detach host '' 'exec sleep 100'
    cat >/tmp/process.json <<END
{ "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "/scheduled.sh"], "env": ["PATH=/bin"], "cwd": "/", "scheduler": { "policy": "SCHED_FIFO", "priority": 3 } }
END
    said=$(rt exec --process /tmp/process.json host)
    rt delete --force host
    holds "$said" 'policy 1 priority 3'
}

scheduler_out_of_range_is_an_error() {
    for wrong in '"policy": "SCHED_FIFO", "priority": 100' '"policy": "SCHED_OTHER", "priority": 5' '"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 3, "period": 1'; do
        status=0
        said=$(scheduled "$wrong") || status=$?
        [ "$status" = 1 ] || fail "$wrong: status $status: $said"
        holds "$said" chedul
        [ "$(echo "$said" | wc -l)" = 1 ] || fail "$said"
    done
}

check scheduler_of_real_time_is_set scheduler_with_deadlines_is_set scheduler_of_an_executed_process scheduler_out_of_range_is_an_error
