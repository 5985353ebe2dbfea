#!/bin/sh
# Print the status of a job of Grid Engine: running, success or failed.
#   status.sh ID
set -eu
if job=$(LC_ALL=C qstat -j "$1" 2>&1); then
  if printf '%s\n' "$job" | grep -q '^error reason'; then
    # It cannot start (state Eqw), and would wait until someone deletes it.
    printf '%s\n' "$job" | grep '^error reason' >&2
    qdel "$1" >&2
    echo failed
  else
    echo running
  fi
  exit
fi
case $job in
  *"do not exist"*) ;;
  *) # The scheduler does not answer, which says nothing about the job.
    printf '%s\n' "$job" >&2
    echo running
    exit
    ;;
esac
# The job has ended. Grid Engine writes the accounting file every 15 s, and another host may see it
# later.
waited=0
until record=$(qacct -j "$1" 2>/dev/null); do
  if [ "$waited" -ge 90 ]; then
    echo "job $1: not in the accounting file after $waited s" >&2
    echo failed
    exit
  fi
  sleep 3
  waited=$((waited + 3))
done
printf '%s\n' "$record" | awk '
  $1 == "failed" { failed = $2 } $1 == "exit_status" { code = $2 }
  END { print (failed == "0" && code == "0") ? "success" : "failed" }'
