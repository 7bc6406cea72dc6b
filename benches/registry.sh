#!/bin/sh
# Starts a registry with nothing in it, in place of the one that may be there, and waits until it answers.
# usage: registry.sh debian|embedded PORT    (the directory is $work/KIND)
set -eu
kind=$1
port=$2
place=$work/$kind
if [ -f "$place.pid" ]; then
    kill "$(cat "$place.pid")" 2>/dev/null || :
    while kill -0 "$(cat "$place.pid")" 2>/dev/null; do sleep 0.01; done
fi
rm -rf "$place"
mkdir -p "$place"
case $kind in
debian)
    cat >"$place.yml" <<END
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: $place } }
http: { addr: "127.0.0.1:$port" }
END
    docker-registry serve "$place.yml" >"$place.log" 2>&1 </dev/null &
    ;;
embedded)
    dhow registry serve --addr "127.0.0.1:$port" --root "$place" >"$place.log" 2>&1 </dev/null &
    ;;
esac
echo $! >"$place.pid"
for _ in $(seq 100); do
    ! busybox wget -q -O /dev/null "http://127.0.0.1:$port/v2/" 2>/dev/null || exit 0
    sleep 0.05
done
echo "registry.sh: no answer from the $kind registry on port $port: $(tail -n 3 "$place.log")" >&2
exit 1
