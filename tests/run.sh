#!/usr/bin/env bash
# Run every check: format, lint, types, import rule, then unit, integration and image tests. Makes what it needs.
# usage: tests/run.sh [PYTEST_ARGUMENT...]    for example: tests/run.sh -m 'not docker' tests/unit
set -Eeuo pipefail

step() { printf '\n== %s\n' "$*"; }

# An engine where there is none, on a machine that lends one; image tests must then run, not skip.
bring_up_docker() {
  local docker_up=../shared/ci/docker-up environment
  if [[ -x "$docker_up" && "$(id -u)" == 0 && -z "${BASE_IMAGE-}" ]]; then
    environment="$("$docker_up")"
    eval "$environment"
    export REQUIRE_DOCKER=1
  fi
}

shell_scripts() {
  find . -path ./.venv -prune -o -name '*.sh' -print
  echo .ci/run
}

check() {
  local scripts
  mapfile -t scripts < <(shell_scripts)
  step 'format'
  ruff format --check .
  shfmt --indent 2 --case-indent --diff "${scripts[@]}"
  step 'lint'
  ruff check .
  shellcheck "${scripts[@]}"
  if command -v hadolint >/dev/null; then hadolint docker/*/Dockerfile; fi
  step 'types'
  mypy
  step 'import rule'
  PYTHONPATH=container lint-imports
}

main() {
  cd "$(dirname "$0")/.."
  ./local_test/environment.sh dev
  export PATH="$PWD/.venv/bin:$PATH"
  check
  bring_up_docker
  step 'tests'
  exec pytest "$@"
}

main "$@"
