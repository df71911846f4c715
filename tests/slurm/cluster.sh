#!/usr/bin/env bash
# A real SLURM on this machine: two nodes of one processor each, `main` and, preempting it, `urgent`.
#
#   tests/slurm/cluster.sh start /tmp/began-slurm   # needs root, on Debian or Ubuntu
#   export SLURM_CONF=/tmp/began-slurm/slurm.conf
#   tests/slurm/cluster.sh stop /tmp/began-slurm
#
# All it writes is in that folder, but for the nodes' names in /etc/hosts and, where they are
# missing, the packages.
set -eu
action=$1 folder=$2
export SLURM_CONF=$folder/slurm.conf
nodes="began-1 began-2"

end() {
    for pid in "$folder"/*.pid; do
        [ -e "$pid" ] && kill "$(cat "$pid")" 2>/dev/null
    done
    true
}

if [ "$action" = stop ]; then
    end
    exit
fi

command -v slurmctld slurmd munged srun >/dev/null || {
    apt-get update -q
    apt-get install -y -q --no-install-recommends slurmctld slurmd slurm-client munge
}
mkdir -p "$folder/state"
chmod 755 "$folder"
for node in $nodes; do
    mkdir -p "$folder/spool-$node"
    grep -qw "$node" /etc/hosts || echo "127.0.0.1 $node" >>/etc/hosts
done

cat >"$SLURM_CONF" <<CONF
ClusterName=began
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
# A requeued job waits until its credential has expired: two minutes by default.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=began-1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=16821 CPUs=1
NodeName=began-2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=16822 CPUs=1
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=20 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 State=UP
CONF

[ -e "$folder/munge.key" ] || mungekey --create --keyfile="$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --seed-file="$folder/munge.seed" --log-file="$folder/munge.log"
slurmctld -c
for node in $nodes; do
    slurmd -N "$node"
done
for _ in $(seq 60); do
    [ "$(sinfo --noheader --partition=main --states=idle --format=%D)" = 2 ] && exit
    sleep 0.5
done
sinfo >&2
echo "tests/slurm/cluster.sh: the nodes did not come up; see $folder/*.log" >&2
end
exit 1
