#!/bin/sh
# Starts docker-registry for the topic layers, in place of the one that may be there, and waits until it answers.
# usage: layers-registry.sh NAME PORT empty|kept|with-one [counted]   its directory is $place/NAME: emptied, as it is, or a copy of
# $place/with-one; counted, it writes a line for each request to $place/NAME.log
set -eu
name=$1 port=$2 content=$3
directory=$place/$name
if [ -f "$work/$name.pid" ]; then
    kill "$(cat "$work/$name.pid")" 2>/dev/null || :
    while kill -0 "$(cat "$work/$name.pid")" 2>/dev/null; do sleep 0.01; done
fi
case $content in
empty) rm -rf "$directory" ;;
with-one) rm -rf "$directory" && cp -a "$place/with-one" "$directory" ;;
esac
mkdir -p "$directory"
disabled=true
[ "${4:-}" != counted ] || disabled=false
cat >"$place/$name.yml" <<END
version: 0.1
log: { level: error, accesslog: { disabled: $disabled } }
storage: { filesystem: { rootdirectory: $directory } }
http: { addr: "127.0.0.1:$port" }
END
: >"$place/$name.log"
# Appended, since what it says is emptied below.
docker-registry serve "$place/$name.yml" >>"$place/$name.log" 2>&1 </dev/null &
echo $! >"$work/$name.pid"
for _ in $(seq 200); do
    if busybox wget -q -O /dev/null "http://127.0.0.1:$port/v2/" 2>/dev/null; then
        # The questions so far do not count.
        : >"$place/$name.log"
        exit 0
    fi
    sleep 0.02
done
echo "layers-registry.sh: no answer on port $port: $(tail -n 3 "$place/$name.log")" >&2
exit 1
