#!/bin/sh
# The kernel spares process 1 the default action of a signal: a server that does not ask for SIGTERM would not hear it.
# So the shell stays process 1, and ends the container at once when it is told to stop.
trap 'exit 0' TERM INT
echo "serving /var/www on port $PORT" >&2
httpd -f -v -p "$PORT" -h /var/www &
wait
