#!/bin/sh
# Submit a job of Snakemake to Grid Engine and print its id.
#   submit.sh RULE THREADS MEM_MB MINUTES GPUS JOBSCRIPT
set -eu
rule=$1 threads=$2 mem_mb=$3 minutes=$4 gpus=$5 script=$6
mkdir -p .snakemake/cluster-logs

# Your site's names of the parallel environment, and of the memory and GPU resources may differ:
# see `qconf -spl` and `qconf -sc`.
# h_vmem limits the address space, of which torch reserves about 3 GB more than it uses, and far more
# with CUDA: jobs on a GPU have no limit, and request that the memory is free.
if [ "$gpus" -gt 0 ]; then memory=mem_free; else memory=h_vmem mem_mb=$((mem_mb + 3000)); fi
# Memory is per slot, and is rounded up.
set -- -l "h_rt=$((minutes * 60)),$memory=$(((mem_mb + threads - 1) / threads))M"
if [ "$threads" -gt 1 ]; then set -- "$@" -pe smp "$threads"; fi
if [ "$gpus" -gt 0 ]; then set -- "$@" -l "gpu=$gpus"; fi
if [ "$rule" = cost ]; then set -- "$@" -l exclusive=true; fi

# -r n: only Snakemake repeats a job. -b y -shell n: no login shell, whose profile could replace the
# environment that -V passes on.
exec qsub -terse -cwd -V -r n -N "$rule" -j y -o .snakemake/cluster-logs "$@" \
  -b y -shell n /bin/sh "$script"
