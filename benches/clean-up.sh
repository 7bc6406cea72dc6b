#!/bin/sh
# Ends the registries that a topic left running, and removes the place of a run with whatever the peers have mounted in it.
set -u
for pid in "${work:?}"/*.pid; do
    [ ! -f "$pid" ] || kill "$(cat "$pid")" 2>/dev/null
done
awk -v place="$work/" 'index($5, place) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
    while read -r mount; do umount -l "$mount"; done
rm -rf "$work"
