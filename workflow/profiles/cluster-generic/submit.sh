#!/bin/sh
# Submit a job of Snakemake to Grid Engine and print its id.
#   submit.sh RULE THREADS MEM_MB MINUTES GPUS JOBSCRIPT
set -eu
rule=$1 threads=$2 mem_mb=$3 minutes=$4 gpus=$5 script=$6
mkdir -p .snakemake/cluster-logs

# Your site's names of the parallel environment and of the memory and GPU resources may differ:
# see `qconf -spl` and `qconf -sc`. Memory is per slot, and is rounded up.
set -- -l "h_rt=$((minutes * 60)),h_vmem=$(((mem_mb + threads - 1) / threads))M"
if [ "$threads" -gt 1 ]; then set -- "$@" -pe smp "$threads"; fi
if [ "$gpus" -gt 0 ]; then set -- "$@" -l "gpu=$gpus"; fi
if [ "$rule" = cost ]; then set -- "$@" -l exclusive=true; fi

exec qsub -terse -cwd -V -N "carbench-$rule" -j y -o .snakemake/cluster-logs "$@" "$script"
