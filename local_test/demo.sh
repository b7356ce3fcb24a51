#!/usr/bin/env bash
# Train a detector on drawn shapes as a SageMaker job would, on this machine; prints metrics and the paths of pictures.
# usage: local_test/demo.sh [--docker] [--output FOLDER]
#   --docker   in the training image, which is built if it is absent; else in .venv, which is made if it is absent
#   --output   where the made /opt/ml goes; its default is demo, in the repository
# Needs python3 (or Docker), no GPU and no AWS. A second run replaces the first.
set -Eeuo pipefail

readonly IMAGE="${ICEMAKER_IMAGE:-icemaker/training:demo}"
REPOSITORY="$(cd "$(dirname "$0")/.." && pwd)"
readonly REPOSITORY

fail() {
  printf 'demo.sh: %s\n' "$*" >&2
  exit 2
}

# usage: clear_folder FOLDER    empties only what an earlier demo made
clear_folder() {
  if [[ -e "$1" && -n "$(ls -A "$1")" && ! -f "$1/.icemaker-demo" ]]; then
    fail "'$1' holds something that no demo made. Name another folder: --output FOLDER"
  fi
  mkdir -p "$1"
  touch "$1/.icemaker-demo"
  rm -rf "$1/input" "$1/model" "$1/output" "$1/checkpoints"
}

# usage: lay_out FOLDER    what SageMaker puts beside the data of a job: all hyperparameters are strings
lay_out() {
  mkdir -p "$1/input/config" "$1/model" "$1/output"
  cat >"$1/input/config/hyperparameters.json" <<'END'
{
  "model_type": "efficientdet",
  "backbone": "tf_lite0",
  "img_size": "128",
  "batch_size": "4",
  "learning_rate": "0.003",
  "weight_decay": "0.02",
  "epochs": "13",
  "validate_every_epochs": "3",
  "augmentation": "light",
  "score_threshold": "0.01",
  "seed": "1"
}
END
  cat >"$1/input/config/inputdataconfig.json" <<'END'
{
  "training": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"},
  "validation": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
}
END
  cat >"$1/input/config/resourceconfig.json" <<'END'
{"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
END
}

run_here() {
  "$REPOSITORY/local_test/environment.sh" training
  local python="$REPOSITORY/.venv/bin/python"
  "$python" "$REPOSITORY/local_test/draw_shapes.py" "$1/input/data"
  SAGEMAKER_BASE_DIR="$1" "$python" "$REPOSITORY/train"
}

run_in_docker() {
  docker image inspect "$IMAGE" &>/dev/null || "$REPOSITORY/docker/build.sh" training "$IMAGE"
  docker run --rm --volume "$REPOSITORY/local_test:/local_test:ro" --volume "$1:/opt/ml" "$IMAGE" \
    python3 /local_test/draw_shapes.py /opt/ml/input/data
  "$REPOSITORY/local_test/train_local.sh" "$IMAGE" "$1"
}

# usage: show FOLDER    the metrics, then the pictures
show() {
  echo
  tr --delete ' ",{}' <"$1/model/metrics.json" | sed -n 's/^\(val_[a-z0-9_]*\):/\1=/p'
  find "$1/output/data" -name '*.png' | sort
  echo "$1/model"
}

main() {
  local run=run_here folder="$REPOSITORY/demo"
  while (($#)); do
    case "$1" in
      --docker) run=run_in_docker ;;
      --output) folder="${2:?--output needs a folder}" && shift ;;
      *) fail "Unknown argument '$1'. usage: local_test/demo.sh [--docker] [--output FOLDER]" ;;
    esac
    shift
  done
  clear_folder "$folder"
  folder="$(cd "$folder" && pwd)"
  lay_out "$folder"
  TIMEFORMAT='%0lR in all; %0U s of CPU time for the program, %0S s for the system'
  time "$run" "$folder"
  show "$folder"
}

main "$@"
