#!/usr/bin/env bash
# The steps of cloudbuild.yaml: build an image, check that it works, and push it.
#
#   build.sh serve BUNDLE IMAGE VERSION      nothing to do if BUNDLE is empty
#   build.sh train true|false IMAGE VERSION  nothing to do if false
set -euo pipefail
kind=$1 choice=$2 image=$3 version=$4

case $kind:$choice in
  serve: | train:false)
    echo "$kind: not asked for"
    exit
    ;;
  serve:*)
    docker build --file envs/Dockerfile.serve --build-arg "BUNDLE=$choice" \
      --build-arg "VERSION=$version" --tag "$image" .
    envs/check_service.sh "$image"
    ;;
  train:true)
    docker build --file envs/Dockerfile.train --build-arg "VERSION=$version" --tag "$image" .
    docker run --rm --network none "$image" \
      sh -c "carbench init smoke && snakemake --cores all --quiet rules && carbench verify"
    ;;
  *)
    echo "build.sh: found $kind $choice; expected serve BUNDLE, train true or train false." \
      "Fix: correct the substitutions of the build" >&2
    exit 1
    ;;
esac
docker push "$image"
