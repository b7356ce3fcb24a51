#!/usr/bin/env bash
# Run a training image on a prepared folder as SageMaker would, and show how it ended.
# usage: local_test/train_local.sh IMAGE FOLDER [DOCKER_RUN_OPTION...]
#   FOLDER is mounted at /opt/ml: input/config/*.json and input/data/<channel>/ go in, model/ and output/ come out.
#   A GPU is handed over where Docker has NVIDIA's runtime. Options such as --network none are passed on.
set -Eeuo pipefail

fail() {
  printf 'train_local.sh: %s\n' "$*" >&2
  exit 2
}

# What root made in the container goes to the caller; --entrypoint, because the image may not be ours.
hand_over() {
  [[ "$(id -u)" == 0 ]] || docker run --rm --volume "$2:/opt/ml" --entrypoint chown "$1" -R "$(id -u):$(id -g)" /opt/ml
}

main() {
  (($# >= 2)) || fail 'usage: local_test/train_local.sh IMAGE FOLDER [DOCKER_RUN_OPTION...]'
  local image="$1" folder status=0
  folder="$(cd "$2" && pwd)" || fail "Folder '$2' does not exist. It needs input/config and input/data/<channel>."
  [[ -d "$folder/input/data" ]] || fail "Folder '$folder' has no input/data. Put each channel in a folder of it."
  shift 2
  docker version >/dev/null || fail 'Docker does not answer. Start it, or use ./local_test/demo.sh without --docker.'

  local options=(--rm --volume "$folder:/opt/ml")
  if docker info --format '{{json .Runtimes}}' | grep --quiet '"nvidia"'; then options+=(--gpus all); fi
  docker run "${options[@]}" "$@" "$image" train || status=$?
  hand_over "$image" "$folder"

  echo "exit code $status"
  if [[ -s "$folder/output/failure" ]]; then
    echo "$folder/output/failure:"
    head --bytes 1024 "$folder/output/failure"
    echo
  fi
  return "$status"
}

main "$@"
