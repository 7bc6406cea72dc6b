#!/bin/sh
# The main job as a tutorial: build two images that share layers, push both, remove them, pull one and run it with limits.
# Every command is printed before it runs. Whatever happens, nothing stays behind.
set -eu

programs=${1:?usage: scripts/demo.sh DIRECTORY-OF-PROGRAMS}
PATH=$(cd "$programs" && pwd):$PATH
here=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/dhow-demo.XXXXXX")
export DHOW_ROOT="$place/root" DHOW_STATE="$place/state"
registry_pid=

finish() {
    status=$?
    trap - EXIT INT TERM
    dhow rm -f web >/dev/null 2>&1 || :
    if [ -n "$registry_pid" ]; then
        kill "$registry_pid" 2>/dev/null && wait "$registry_pid" 2>/dev/null || :
    fi
    rm -rf "$place"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
    printf '\033[36m$ %s\033[0m\n' "$*"
    "$@"
}
# A port that nobody listens on.
free_port() {
    port=$1
    while busybox nc -w 1 127.0.0.1 "$port" </dev/null >/dev/null 2>&1; do port=$((port + 1)); done
    echo "$port"
}
fetch() { timeout 5 busybox wget -q -O - "$1"; }
# Asks until there is an answer, ten seconds at most.
await() {
    tries=0
    until fetch "$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "no answer from $1" >&2; return 1; }
        sleep 0.1
    done
}

cd "$place"

say "A base image from the distribution's own busybox (with internet: dhow pull busybox)"
run "$here/scripts/busybox-rootfs.sh" busybox.tar
run dhow import busybox.tar busybox

say "Two images that share their layers"
run cp -r "$here/Dockerfile.examples/web" web
run cat web/Dockerfile
run dhow build -t demo/web:1 web
echo "$ echo '<p>The second edition.</p>' >>web/www/index.html"
echo '<p>The second edition.</p>' >>web/www/index.html
run dhow build -t demo/web:2 web
run dhow images

say "A registry, from the same program"
registry=127.0.0.1:$(free_port 5000)
echo "\$ dhow registry serve --addr $registry --root $place/registry &"
dhow registry serve --addr "$registry" --root "$place/registry" &
registry_pid=$!
await "http://$registry/v2/"

say "Push both; the second push finds the shared layers there"
run dhow tag demo/web:1 "$registry/demo/web:1"
run dhow tag demo/web:2 "$registry/demo/web:2"
run dhow push "$registry/demo/web:1"
run dhow push "$registry/demo/web:2"

say "Remove everything here, and pull the second back"
run dhow rmi demo/web:1 demo/web:2 "$registry/demo/web:1" "$registry/demo/web:2" busybox
run dhow images
run dhow pull "$registry/demo/web:2"

say "Run it, with limits of memory and CPU"
port=$(free_port 8080)
run dhow run -d --name web --network host --memory 64m --cpus 0.5 -e "PORT=$port" "$registry/demo/web:2"
await "http://127.0.0.1:$port/"
run dhow ps
echo "\$ wget -O - http://127.0.0.1:$port/"
fetch "http://127.0.0.1:$port/"
run dhow exec web ps
run dhow logs web

say "Stop it and clean up"
run dhow stop web
run dhow rm web
run dhow rmi "$registry/demo/web:2"
run dhow ps -a
say "Done: $(du -sh "$place/registry" | cut -f1) in the registry are removed now, with the store."
