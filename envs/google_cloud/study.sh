#!/usr/bin/env bash
# Runs the study of params.yaml on this machine, and keeps its results and checkpoints in a bucket.
# cloud.sh has Google Batch run it in the training image, on a VM that exists as long as it runs.
#
#   study.sh gs://BUCKET/carbench gs://BUCKET/studies/NAME.tar [TARGET...]
#
# The first URL is the DVC remote; the second an archive of what the image lacks: params.yaml and
# the files that it names. Targets are Snakemake's. A study that was interrupted continues with what
# the remote has.
set -euo pipefail
remote=$1 files=$2
shift 2
cd "$(dirname "$0")/../.."

archive=$(mktemp -u)
dvc get-url --quiet "$files" "$archive"
tar --extract --file "$archive"
rm "$archive"
# The image has the code, but no git history, which DVC would look for.
[ -d .git ] || dvc config --local core.no_scm true

# Fails within seconds, not after the stages that need no GPU.
if grep --quiet --extended-regexp '^ *device: *cuda' params.yaml &&
  ! python -c 'import torch; torch.cuda.init()'; then
  echo "study.sh: params.yaml sets device: cuda, but torch cannot use a GPU of this machine, see" \
    "above. Fix: CARBENCH_GPUS=1, and if the driver is too old, CARBENCH_GPU_DRIVER" >&2
  exit 1
fi

# The executor pushes each result as soon as it is made, except those of the small stages that run
# beside Snakemake: these are pushed at the end, also of a study that fails.
push() {
  status=$?
  carbench sync --remote "$remote" || exit 1
  exit $status
}
trap push EXIT

carbench sync --remote "$remote"
# One job at a time: each has the machine for itself, and stage `cost` measures undisturbed.
snakemake --quiet rules --workflow-profile workflow/profiles/remote --jobs 1 \
  --carbench-remote "$remote" --carbench-launcher env -- "$@"
