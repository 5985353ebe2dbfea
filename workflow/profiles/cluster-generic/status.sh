#!/bin/sh
# Print the status of a job of Grid Engine: running, success or failed.
#   status.sh ID
set -eu
if qstat -j "$1" >/dev/null 2>&1; then
  echo running
  exit
fi
# The job has ended; its accounting record may take some seconds.
for second in 1 2 3 4 5 6 7 8 9 10; do
  if status=$(qacct -j "$1" 2>/dev/null); then
    printf '%s\n' "$status" | awk '
      $1 == "failed" { failed = $2 } $1 == "exit_status" { code = $2 }
      END { print (failed == 0 && code == 0) ? "success" : "failed" }'
    exit
  fi
  sleep "$((second < 3 ? 1 : 3))"
done
echo failed
