#!/bin/sh
# Starts a containerd of the run's own, in place of the one that may be there, with what it has kept; waits until it answers.
set -eu
if [ -f "$work/containerd.pid" ]; then
    kill "$(cat "$work/containerd.pid")" 2>/dev/null || :
    while kill -0 "$(cat "$work/containerd.pid")" 2>/dev/null; do sleep 0.01; done
fi
cat >"$place/containerd.toml" <<END
version = 2
root = "$place/containerd"
state = "$place/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$place/containerd.sock"
[debug]
level = "error"
END
containerd --config "$place/containerd.toml" >"$work/containerd.log" 2>&1 </dev/null &
echo $! >"$work/containerd.pid"
for _ in $(seq 200); do
    ! ctr --address "$place/containerd.sock" version >/dev/null 2>&1 || exit 0
    sleep 0.05
done
echo "containerd.sh: no answer: $(tail -n 3 "$work/containerd.log")" >&2
exit 1
