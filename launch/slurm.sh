#!/usr/bin/env bash
# Trains as one SLURM job, a task for each GPU, from the checkout that it is submitted in:
#
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8 --time=24:00:00 \
#       launch/slurm.sh --config=configs/celeba128.py --workdir=/shared/runs/celeba128
#
# Arguments go to main.py as they are; options of sbatch stand before the script and go before those
# below. A job that is preempted, requeued or close to its time limit saves, is put into the queue
# again and goes on. Output: <name>-<job>.log of this script, <name>-<job>-<host>.log of each host.

#SBATCH --job-name=began
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# To this script alone, so many seconds before the time limit: at least what a save takes.
#SBATCH --signal=B:TERM@120
set -u

root=${SLURM_SUBMIT_DIR:-}
if [ ! -f "$root/main.py" ]; then
    echo "launch/slurm.sh: sbatch launch/slurm.sh ... is needed, in the checkout" >&2
    exit 2
fi
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3

# All tasks are signalled, not srun, which would end them; the rest of the time is for the save.
trap 'scancel --signal=TERM "$SLURM_JOB_ID"' TERM

# Which srun no longer takes from sbatch by itself.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# No task is ended because another is: the first may still be saving. JAX ends what cannot go on.
srun --output="%x-%j-%N.log" --open-mode=append --kill-on-bad-exit=0 --wait=0 \
    "$python" "$root/main.py" "$@" &
step=$!
wait "$step"
status=$?
# A trapped signal interrupts `wait`: the tasks are still saving.
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
    status=$?
done

# Stopped and saved (128 + SIGTERM), but not by scancel: that job's state is no longer RUNNING, nor
# is that of one that SLURM is requeueing by itself.
if [ "$status" -eq 143 ] && [ "$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until SLURM ends this script: a job that ended by itself would not be requeued
fi
exit "$status"
