#!/usr/bin/env bash
# carbench on Google Cloud (docs/google_cloud.md).
#
#   cloud.sh setup               bucket, image repository, service accounts, permissions
#   cloud.sh study [TARGET...]   run the study of params.yaml on a VM that is deleted afterwards
#   cloud.sh deploy              serve results/export with Cloud Run
#   cloud.sh status              what exists, and how the latest study is getting on
#   cloud.sh teardown [--yes] [--delete-results]
#                                delete everything; the bucket only with --delete-results
#
# With --dry-run, commands are printed as a script and not run. Each of these may be repeated.
# These environment variables are its settings:
#
#   CARBENCH_PROJECT           the project; required
#   CARBENCH_REGION            region of everything (europe-west4)
#   CARBENCH_NAME              name of the deployment, and value of the label `carbench` (carbench)
#   CARBENCH_BUCKET            the bucket (PROJECT-NAME); an existing one is used, and never deleted
#   CARBENCH_GPUS              1, or 0 for a study without a GPU (1)
#   CARBENCH_GPU_MACHINE_TYPE  machine type with a GPU (g2-standard-8, which has one L4)
#   CARBENCH_MACHINE_TYPE      machine type for CARBENCH_GPUS=0 (e2-standard-8)
#   CARBENCH_GPU_TYPE          for machine types without a GPU of their own (N1): nvidia-tesla-t4
#   CARBENCH_GPU_DRIVER        version of NVIDIA's driver, instead of Google Batch's choice
#   CARBENCH_MEMORY_MB         memory of the study (3000 per CPU of the machine type)
#   CARBENCH_HOURS             the study is stopped after this time (24)
#   CARBENCH_SPOT              yes, or no for a VM that is not reclaimed (yes)
#   CARBENCH_SERVE_MEMORY      memory of an instance of the service (2Gi)
#   CARBENCH_SERVE_INSTANCES   maximum number of instances of the service (2)
set -euo pipefail

fail() {
  echo "cloud.sh: $*" >&2
  exit 1
}

# --- printing and running ---

# The arguments as a shell would read them, without quotes where none are needed.
quoted() {
  local word words=()
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
  done
  echo "${words[*]}"
}

# Prints a line of shell and runs it; with --dry-run, only prints it.
line() {
  if [[ $dry_run ]]; then
    echo "$1"
  else
    echo "+ $1" >&2
    eval "$1"
  fi
}

run() {
  line "$(quoted "$@")"
}

# unless CHECK... -- COMMAND...: runs a command if another one fails.
unless() {
  local check=()
  while [[ $1 != -- ]]; do
    check+=("$1")
    shift
  done
  line "$(quoted "${check[@]}") >/dev/null 2>&1 || $(quoted "${@:2}")"
}

# for_each LIST... -- COMMAND...: the text that appends each word of LIST's output to COMMAND.
for_each() {
  local list=()
  while [[ $1 != -- ]]; do
    list+=("$1")
    shift
  done
  echo "$(quoted "${list[@]}") | xargs --no-run-if-empty --max-args=1 $(quoted "${@:2}")"
}

# --- settings ---

# setting NAME DEFAULT PATTERN EXPECTED
setting() {
  local value=${!1:-$2}
  [[ $value =~ ^($3)$ ]] || fail "$1: found ${value:-nothing}; expected $4. Fix: export $1=..."
  declare -gx "$1=$value"
}

read_settings() {
  local letters='[a-z]([a-z0-9-]*[a-z0-9])?' count='[0-9]+'
  setting CARBENCH_PROJECT "" '[a-z][a-z0-9-]{4,28}[a-z0-9]' "the ID of a project"
  setting CARBENCH_REGION europe-west4 '[a-z]+-[a-z]+[0-9]+' "a region such as europe-west4"
  setting CARBENCH_NAME carbench '[a-z][a-z0-9-]{0,20}[a-z0-9]' \
    "2 to 22 lower-case letters, digits and hyphens"
  setting CARBENCH_BUCKET "$CARBENCH_PROJECT-$CARBENCH_NAME" '[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]' \
    "the name of a bucket, without gs://"
  setting CARBENCH_GPUS 1 '[01]' "0 or 1"
  setting CARBENCH_GPU_MACHINE_TYPE g2-standard-8 "$letters" "a machine type"
  setting CARBENCH_MACHINE_TYPE e2-standard-8 "$letters" "a machine type"
  setting CARBENCH_GPU_TYPE "" "($letters)?" "an accelerator such as nvidia-tesla-t4"
  setting CARBENCH_GPU_DRIVER "" '[0-9.]*' "a version such as 580.95.05"
  setting CARBENCH_HOURS 24 '[1-9][0-9]*' "a whole number of hours"
  setting CARBENCH_SPOT yes 'yes|no' "yes or no"
  setting CARBENCH_SERVE_MEMORY 2Gi '[0-9]+[MG]i' "an amount such as 2Gi"
  setting CARBENCH_SERVE_INSTANCES 2 '[1-9][0-9]*' "a whole number"
  machine_type=$CARBENCH_MACHINE_TYPE
  ((CARBENCH_GPUS == 0)) || machine_type=$CARBENCH_GPU_MACHINE_TYPE
  cpus=${machine_type##*-}
  [[ $cpus =~ ^$count$ ]] ||
    fail "$machine_type: expected a machine type that ends in its number of CPUs"
  setting CARBENCH_MEMORY_MB "$((cpus * 3000))" "$count" "megabytes"

  in_project=(--project="$CARBENCH_PROJECT")
  in_region=(--region="$CARBENCH_REGION" "${in_project[@]}")
  in_location=(--location="$CARBENCH_REGION" "${in_project[@]}")
  bucket=gs://$CARBENCH_BUCKET
  remote=$bucket/carbench
  registry=$CARBENCH_REGION-docker.pkg.dev/$CARBENCH_PROJECT/$CARBENCH_NAME
}

# E-mail address of the service account that builds, runs studies, or serves.
account() {
  echo "$CARBENCH_NAME-$1@$CARBENCH_PROJECT.iam.gserviceaccount.com"
}

# --- setup ---

build_on_bucket=roles/storage.objectViewer
study_on_bucket=roles/storage.objectUser

# grant ACCOUNT ROLE COMMAND...
grant() {
  local member attempt
  member=serviceAccount:$(account "$1")
  # A new service account is not known everywhere at once.
  for attempt in 1 2 3 4 5; do
    run gcloud "${@:3}" --member="$member" --role="$2" --format=none && return
    echo "attempt $attempt of 5 failed" >&2
    sleep 5
  done
  fail "$(account "$1") did not get $2, see above. Fix: setup needs the roles in docs/google_cloud.md"
}

setup() {
  local role
  run gcloud services enable artifactregistry.googleapis.com batch.googleapis.com \
    cloudbuild.googleapis.com compute.googleapis.com iam.googleapis.com logging.googleapis.com \
    run.googleapis.com storage.googleapis.com "${in_project[@]}"

  # A bucket gets its label after it was created, and only here: teardown deletes no bucket that
  # existed before.
  local create=(gcloud storage buckets create "$bucket" "${in_location[@]}"
    --uniform-bucket-level-access --public-access-prevention)
  local label=(gcloud storage buckets update "$bucket" --update-labels=carbench="$CARBENCH_NAME"
    --lifecycle-file=envs/google_cloud/lifecycle.json)
  line "$(quoted gcloud storage buckets describe "$bucket") >/dev/null 2>&1 ||
  { $(quoted "${create[@]}") &&
    $(quoted "${label[@]}"); }"
  unless gcloud artifacts repositories describe "$CARBENCH_NAME" "${in_location[@]}" -- \
    gcloud artifacts repositories create "$CARBENCH_NAME" --repository-format=docker \
    --labels=carbench="$CARBENCH_NAME" "${in_location[@]}"
  for role in build study serve; do
    unless gcloud iam service-accounts describe "$(account $role)" "${in_project[@]}" -- \
      gcloud iam service-accounts create "$CARBENCH_NAME-$role" \
      --description="carbench-deployment-$CARBENCH_NAME" "${in_project[@]}"
  done

  # Cloud Build reads the code from the bucket and pushes images. A study pulls its image, and
  # exchanges results through the bucket. The service only answers requests: it has no role.
  local on_bucket=(storage buckets add-iam-policy-binding "$bucket")
  local on_images=(artifacts repositories add-iam-policy-binding "$CARBENCH_NAME"
    "${in_location[@]}")
  local on_project=(projects add-iam-policy-binding "$CARBENCH_PROJECT" --condition=None)
  grant build "$build_on_bucket" "${on_bucket[@]}"
  grant build roles/artifactregistry.writer "${on_images[@]}"
  grant build roles/logging.logWriter "${on_project[@]}"
  grant study "$study_on_bucket" "${on_bucket[@]}"
  grant study roles/artifactregistry.reader "${on_images[@]}"
  grant study roles/logging.logWriter "${on_project[@]}"
  grant study roles/batch.agentReporter "${on_project[@]}"
}

# --- images ---

# Sets `commit`. An image is named after the commit that it was built from.
require_commit() {
  local edited
  edited=$(git status --porcelain --untracked-files=no -- . \
    ':!params.yaml' ':!results' ':!dvc.lock' ':!.dvc' ':!docs')
  [[ -z $edited ]] || fail "found edits that are not committed:
$edited
expected the code of a commit, after which images are named. Fix: git commit"
  commit=$(git rev-parse --short=12 HEAD)
}

# build IMAGE SUBSTITUTIONS: builds an image unless it exists.
build() {
  unless gcloud artifacts docker images describe "$1" "${in_project[@]}" -- \
    gcloud builds submit . --config=envs/google_cloud/cloudbuild.yaml \
    --substitutions="_REPOSITORY=$registry,_TAG=${1##*:},$2" \
    --service-account="projects/$CARBENCH_PROJECT/serviceAccounts/$(account build)" \
    --gcs-source-staging-dir="$bucket/builds" --timeout=2h "${in_region[@]}"
}

# --- study ---

require_no_active_study() {
  local list found
  list=$(quoted gcloud batch jobs list "${in_location[@]}" \
    "--filter=labels.carbench~^$CARBENCH_NAME\$ AND status.state:(QUEUED SCHEDULED RUNNING)" \
    "--format=value(name.basename())")
  if [[ $dry_run ]]; then
    line "test -z \"\$($list)\""
    return
  fi
  found=$(line "$list")
  [[ ! $found ]] ||
    fail "found $found, which has not ended; another study would compute the same results." \
      "Fix: wait for it, or stop it: gcloud batch jobs delete $found ${in_location[*]}"
}

study() {
  local target name archive files job
  for target in "$@"; do
    [[ $target =~ ^[A-Za-z0-9_][A-Za-z0-9_./-]*$ ]] ||
      fail "found $target; expected a target of Snakemake such as results/report.html"
  done
  require_commit
  name=$CARBENCH_NAME-$(date --utc +%Y%m%d-%H%M%S)
  archive=$bucket/studies/$name.tar
  files=$(python envs/google_cloud/study_files.py)
  mapfile -t files <<<"$files"
  export CARBENCH_IMAGE=$registry/train:$commit CARBENCH_SERVICE_ACCOUNT
  CARBENCH_SERVICE_ACCOUNT=$(account study)
  job=$(python envs/google_cloud/batch_job.py "$name" "$cpus" "$CARBENCH_MEMORY_MB" \
    "$((CARBENCH_HOURS * 60))" "$CARBENCH_GPUS" \
    bash envs/google_cloud/study.sh "$remote" "$archive" "$@")

  require_no_active_study
  build "$CARBENCH_IMAGE" _TRAIN=true,_BUNDLE=
  # What was computed here is not computed again.
  run carbench sync --remote "$remote"
  run mkdir --parents .carbench
  run tar --create --dereference --file=.carbench/study.tar -- "${files[@]}"
  run gcloud storage cp .carbench/study.tar "$archive"
  line "$(quoted gcloud batch jobs submit "$name" --config=- "${in_location[@]}") <<'END'
$job
END"
  cat >&2 <<END
cloud.sh: how $name is getting on: cloud.sh status
cloud.sh: to take its results, or those it has so far: carbench sync --remote $remote
END
}

# --- service ---

deploy() {
  local version image
  [[ -f results/export/model.json ]] ||
    fail "found no results/export/model.json; expected an exported model." \
      "Fix: finish the study, or take its results: carbench sync --remote $remote"
  require_commit
  version=$(python -c 'import json; print(json.load(open("results/export/model.json"))["version"])')
  image=$registry/serve:$version-$commit
  build "$image" _BUNDLE=results/export
  # An instance has one CPU and hence one worker, which takes 32 requests at a time (--waiting).
  run gcloud run deploy "$CARBENCH_NAME" --image="$image" "${in_region[@]}" \
    --service-account="$(account serve)" --no-allow-unauthenticated \
    --labels=carbench="$CARBENCH_NAME" --execution-environment=gen2 \
    --cpu=1 --cpu-boost --memory="$CARBENCH_SERVE_MEMORY" --concurrency=32 --timeout=30 \
    --min-instances=0 --max-instances="$CARBENCH_SERVE_INSTANCES" \
    --startup-probe=httpGet.path=/readyz,periodSeconds=5,timeoutSeconds=4,failureThreshold=24 \
    --liveness-probe=httpGet.path=/livez,periodSeconds=30,timeoutSeconds=5,failureThreshold=3
}

# --- what exists ---

# Sets the commands that list what has the label of this deployment; a service account has a
# description instead.
set_lists() {
  local labelled="labels.carbench~^$CARBENCH_NAME\$"
  list_jobs=(gcloud batch jobs list "${in_location[@]}" "--filter=$labelled"
    "--format=value(name.basename())")
  list_vms=(gcloud compute instances list "${in_project[@]}" "--filter=$labelled"
    "--format=value(name)")
  list_services=(gcloud run services list "${in_region[@]}" "--filter=metadata.$labelled"
    "--format=value(metadata.name)")
  list_repositories=(gcloud artifacts repositories list "${in_location[@]}" "--filter=$labelled"
    "--format=value(name.basename())")
  list_accounts=(gcloud iam service-accounts list "${in_project[@]}"
    "--filter=description~^carbench-deployment-$CARBENCH_NAME\$" "--format=value(email)")
  list_buckets=(gcloud storage buckets list "${in_project[@]}" "--filter=$labelled"
    "--format=value(storage_url)")
}

inventory() {
  set_lists
  run "${list_jobs[@]}"
  run "${list_vms[@]}"
  run "${list_services[@]}"
  run "${list_repositories[@]}"
  run "${list_accounts[@]}"
  run "${list_buckets[@]}"
}

status() {
  inventory
  run gcloud batch jobs list "${in_location[@]}" "--filter=labels.carbench~^$CARBENCH_NAME\$" \
    --sort-by=~createTime --limit=1 "--format=yaml(name,uid,status.state,status.statusEvents)"
  run gcloud run services list "${in_region[@]}" \
    "--filter=metadata.labels.carbench~^$CARBENCH_NAME\$" "--format=value(status.url)"
  cat >&2 <<END
cloud.sh: the log of a study: gcloud logging read labels.job_uid=UID --order=asc ${in_project[*]}
cloud.sh: one that stays QUEUED or SCHEDULED waits for a machine, or for quota (docs/google_cloud.md)
END
}

# --- teardown ---

teardown() {
  local yes="" with_bucket="" role member what
  while (($#)); do
    case $1 in
      --yes) yes=yes ;;
      --delete-results) with_bucket=yes ;;
      *) fail "teardown: found $1; expected --yes or --delete-results" ;;
    esac
    shift
  done
  set_lists
  if [[ ! $yes && ! $dry_run ]]; then
    inventory
    what="Delete these, except buckets"
    [[ ! $with_bucket ]] || what="Delete these, with all results"
    read -r -p "$what? [y/N] " yes
    [[ $yes == [yY]* ]] || fail "nothing was deleted"
  fi
  line "$(for_each "${list_jobs[@]}" -- gcloud batch jobs delete --quiet "${in_location[@]}")"
  line "$(for_each "${list_services[@]}" -- gcloud run services delete --quiet "${in_region[@]}")"
  # Permissions of a deleted account would remain in the policies of the project and the bucket.
  for role in build study; do
    member=serviceAccount:$(account $role)
    line "$(for_each gcloud projects get-iam-policy "$CARBENCH_PROJECT" \
      "--flatten=bindings[].members" "--filter=bindings.members=$member" \
      "--format=value(bindings.role)" -- \
      gcloud projects remove-iam-policy-binding "$CARBENCH_PROJECT" --condition=None \
      --format=none --member="$member" --role)"
  done
  local from_bucket=(gcloud storage buckets remove-iam-policy-binding "$bucket" --format=none)
  line "$(quoted "${from_bucket[@]}" --member=serviceAccount:"$(account build)" \
    --role="$build_on_bucket") >/dev/null 2>&1 || true"
  line "$(quoted "${from_bucket[@]}" --member=serviceAccount:"$(account study)" \
    --role="$study_on_bucket") >/dev/null 2>&1 || true"
  line "$(for_each "${list_accounts[@]}" -- \
    gcloud iam service-accounts delete --quiet "${in_project[@]}")"
  line "$(for_each "${list_repositories[@]}" -- \
    gcloud artifacts repositories delete --quiet "${in_location[@]}")"
  [[ ! $with_bucket ]] ||
    line "$(for_each "${list_buckets[@]}" -- gcloud storage rm --recursive "${in_project[@]}")"
  echo "${dry_run:+# }cloud.sh: what remains:" >&2
  inventory
}

# --- command line ---

usage() {
  sed -n '2,/^set -euo/ { /^#/ s/^# \?//p }' "$0"
}

dry_run=""
words=()
for word in "$@"; do
  case $word in
    --dry-run) dry_run=yes ;;
    -h | --help) words=(help) && break ;;
    *) words+=("$word") ;;
  esac
done
command=${words[0]:-help}
case $command in
  setup | study | deploy | status | teardown) ;;
  help)
    usage
    exit
    ;;
  *) fail "found $command; expected setup, study, deploy, status or teardown" ;;
esac
# `gcloud builds submit` uploads this folder, and `carbench` finds the study in it.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
read_settings
[[ $dry_run ]] || command -v gcloud >/dev/null ||
  fail "found no gcloud; expected Google Cloud's command line. Fix: install it, and gcloud auth login"
[[ ! $dry_run ]] || printf '%s\n' '#!/usr/bin/env bash' 'set -euo pipefail' "cd $(quoted "$PWD")"
"$command" "${words[@]:1}"
