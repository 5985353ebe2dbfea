#!/usr/bin/env bash
# The step of cloudbuild.yaml that builds the image of whole studies, runs a small study in it
# without a network, and pushes it:  build_train.sh true|false IMAGE VERSION
set -euo pipefail

if [ "$1" != true ]; then
  echo "_TRAIN is $1: no image for training"
  exit 0
fi
docker build --file envs/Dockerfile.train --build-arg "VERSION=$3" --tag "$2" .
docker run --rm --network none "$2" \
  sh -c "carbench init smoke && snakemake --cores all --quiet rules && carbench verify"
docker push "$2"
