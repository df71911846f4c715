#!/usr/bin/env bash
# Trains on this machine and goes on after a crash: launch/local.sh --config=configs/demo.py ...
#
# Arguments go to main.py as they are. A run that ends by itself (0), is refused (2) or is stopped
# by a signal that it could answer (130, 143) is left; one that was killed, crashed or lost another
# of its processes (75) is resumed, five times at most.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3

child=
stopping=
trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
for attempt in 1 2 3 4 5 6; do
    [ -z "$stopping" ] || exit 143
    "$python" "$root/main.py" "$@" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null # it came before there was a child
    wait "$child"
    status=$?
    # A trapped signal interrupts `wait`: the child is still saving.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
    [ -z "$stopping" ] || exit "$status"
    case $status in
        0 | 2 | 130 | 143) exit "$status" ;;
    esac
    echo "launch/local.sh: ended with status $status, attempt $attempt of 6" >&2
done
exit "$status"
