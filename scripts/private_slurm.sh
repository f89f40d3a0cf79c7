#!/bin/bash
# A Slurm of one's own on this machine, for tests: controller, one node and munge, all in one folder.
#
#   scripts/private_slurm.sh start DIR [CPUS]    # then: export SLURM_CONF=DIR/slurm.conf
#   scripts/private_slurm.sh stop DIR
#
# Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. Exit code 77: they are not there.
set -euo pipefail

die() { echo "private_slurm: $*" >&2; exit 1; }
cannot() { echo "private_slurm: $*" >&2; exit 77; }

start() {
    local dir=$1 cpus=${2:-4} program host port
    [ "$(id -u)" = 0 ] || cannot "needs root"
    PATH=$PATH:/usr/sbin:/sbin
    for program in munged slurmctld slurmd sbatch; do
        command -v "$program" > /dev/null || cannot "$program is not installed: apt-get install slurmctld slurmd slurm-client munge"
    done
    host=$(hostname -s)
    port=$((20000 + RANDOM % 20000))
    mkdir -p "$dir"/{munge,state,spool,log}
    chmod 755 "$dir" "$dir"/munge
    head -c 1024 /dev/urandom > "$dir/munge/key"
    chmod 400 "$dir/munge/key"
    cat > "$dir/slurm.conf" <<CONF
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=100000
SlurmdParameters=config_overrides
MaxArraySize=${PRIVATE_SLURM_MAX_ARRAY:-1001}
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 State=UP
CONF
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/log/munged" --seed-file="$dir/munge/seed" || die "munged does not start: $dir/log/munged"
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -c -f "$SLURM_CONF" || die "slurmctld does not start: $dir/log/slurmctld"
    slurmd -f "$SLURM_CONF" || die "slurmd does not start: $dir/log/slurmd"
    for _ in $(seq 100); do
        if sinfo --noheader --format=%T 2> /dev/null | grep -q idle; then
            sinfo --version
            return
        fi
        sleep 0.3
    done
    tail -n 20 "$dir"/log/* >&2
    die "the node does not come up"
}

# TERM to the processes whose pids stand in files, and KILL to what is left of them.
stop() {
    local dir=$1 file pid
    export SLURM_CONF=$dir/slurm.conf
    timeout 10 scancel --user="$(id -u)" --full 2> /dev/null || true
    for _ in $(seq 30); do
        timeout 5 squeue --noheader 2> /dev/null | grep -q . || break
        sleep 0.3
    done
    for file in slurmd.pid slurmctld.pid munge/pid; do
        [ -s "$dir/$file" ] || continue
        pid=$(< "$dir/$file")
        kill "$pid" 2> /dev/null || continue
        for _ in $(seq 30); do
            kill -0 "$pid" 2> /dev/null || break
            sleep 0.2
        done
        kill -KILL "$pid" 2> /dev/null || true
    done
    rm -rf -- "$dir"
}

case ${1:-} in
    start) start "${@:2}" ;;
    stop) stop "$2" ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
