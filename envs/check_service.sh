#!/usr/bin/env bash
# Starts an image of the service with few rights and no network, asks it for a prediction, stops it.
#   envs/check_service.sh IMAGE [OPTION OF docker run]...
# The model is in the image, or in a folder: --volume "$PWD/results/export:/model:ro"
set -euo pipefail

container=$(docker run --detach --network none --read-only --tmpfs /tmp --cap-drop all \
  --security-opt no-new-privileges --cpus 1 --memory 2g "${@:2}" "$1")
trap 'docker rm --force --volumes "$container" > /dev/null' EXIT

# Asks the service from inside the container: GET, or POST with an image as the body.
ask() {
  docker exec --interactive "$container" python - "$@" << 'PYTHON'
import os, pathlib, sys, urllib.request
body = pathlib.Path(sys.argv[2]).read_bytes() if sys.argv[2:] else None
url = f"http://127.0.0.1:{os.environ['PORT']}{sys.argv[1]}"
request = urllib.request.Request(url, body, {"Content-Type": "image/jpeg"})
print(urllib.request.urlopen(request, timeout=10).read().decode())
PYTHON
}

for _ in $(seq 60); do
  ready=$(ask /readyz 2> /dev/null) && break
  sleep 1
done
if [ -z "${ready:-}" ]; then
  docker logs "$container" >&2
  echo "$1: found no answer to /readyz within a minute; expected one. Fix: read the log above" >&2
  exit 1
fi
ask /v1/predict /model/example.jpg
docker stop --time 30 "$container" > /dev/null
status=$(docker inspect --format '{{.State.ExitCode}}' "$container")
if [ "$status" != 0 ]; then
  docker logs "$container" >&2
  echo "$1: found exit status $status after SIGTERM; expected 0. Fix: read the log above" >&2
  exit 1
fi
