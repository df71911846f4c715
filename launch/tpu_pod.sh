#!/usr/bin/env bash
# Trains on a Cloud TPU slice of any number of hosts: the same command on each, which find each other.
#
#   export TPU=my-slice ZONE=us-central2-b         # and PROJECT, if it is not gcloud's default
#   launch/tpu_pod.sh setup                         # this checkout's commit and its packages
#   launch/tpu_pod.sh train --config=configs/celeba128.py --workdir=runs/celeba128
#   launch/tpu_pod.sh log                           # the first host's; `log all`: each one's last lines
#   launch/tpu_pod.sh stop                          # it saves; `train` with the same arguments goes on
#
# On each host all is in ~/began-jax, output in train.log there. The first host alone has the run's
# folder; on a disk that is lost with the slice, unless --workdir is on one that is not. Python 3.11
# or newer is needed there, by the name in $PYTHON if it is not python3's.
set -eu
usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ $# -gt 0 ] || usage
: "${TPU:?the name of the slice is needed}" "${ZONE:?its zone is needed}"
action=$1
python=${PYTHON:-python3}
shift

on() { # the worker or `all`, and a command for its shell
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"} \
        --worker="$1" --command="$2"
}

case $action in
    setup)
        root=$(cd "$(dirname "$0")/.." && pwd)
        archive=$(mktemp)
        trap 'rm -f "$archive"' EXIT
        git -C "$root" archive --format=tar.gz --output="$archive" HEAD
        gcloud compute tpus tpu-vm scp "$archive" "$TPU:began-jax.tar.gz" --zone="$ZONE" \
            ${PROJECT:+--project="$PROJECT"} --worker=all
        on all "mkdir -p began-jax && tar -xzf began-jax.tar.gz -C began-jax && cd began-jax &&
            { $python -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null ||
                { echo '$python: Python 3.11 or newer is needed (PYTHON=...)' >&2; exit 2; }; } &&
            $python -m venv .venv && .venv/bin/pip install --quiet -r requirements-tpu.txt"
        ;;
    train)
        # In the background, so that the end of this connection does not end it.
        on all "cd began-jax && {
            if kill -0 \$(cat train.pid) 2>/dev/null; then echo 'a run is still there: stop' >&2; exit 1; fi
            nohup .venv/bin/python main.py --distributed$([ $# -eq 0 ] || printf ' %q' "$@") >>train.log 2>&1 </dev/null &
            echo \$! >train.pid
        }"
        ;;
    log)
        if [ "${1:-}" = all ]; then
            on all "tail -n 5 began-jax/train.log"
        else
            on 0 "tail -n 50 -f began-jax/train.log"
        fi
        ;;
    stop) on all "kill -TERM \$(cat began-jax/train.pid)" ;;
    *) usage ;;
esac
