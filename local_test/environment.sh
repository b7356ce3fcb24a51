#!/usr/bin/env bash
# Make .venv in the repository hold exactly what a lock names. Quick when it does already.
# usage: local_test/environment.sh LOCK    LOCK is training, or dev (training and the tools of tests/run.sh)
set -Eeuo pipefail

fail() {
  printf 'environment.sh: %s\n' "$*" >&2
  exit 1
}

# usage: find_python    prints the first Python on PATH that the locks cover
find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "Python 3.11, 3.12 or 3.13 is needed and none is on PATH ($(python3 --version 2>&1)). Install one, for example" \
    "python3 of Debian 12 or 13 or Ubuntu 24.04."
}

# usage: have_venv PYTHON    Debian and Ubuntu keep ensurepip in a package of its own
have_venv() {
  "$1" -c 'import ensurepip, venv' 2>/dev/null && return
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    fail "Python's venv module is missing. Install it: sudo apt-get install python3-venv"
  fi
  printf 'installing python3-venv\n'
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends python3-venv >/dev/null
}

main() {
  cd "$(dirname "$0")/.."
  local lock="docker/requirements/${1:?usage: local_test/environment.sh LOCK}.txt" python sum
  [[ -f "$lock" ]] || fail "There is no lock $lock. There are: $(cd docker/requirements && echo *.txt)"
  sum="$(sha256sum <"$lock")"
  [[ "$(cat ".venv/$1.sha256" 2>/dev/null)" == "$sum" ]] && return

  python="$(find_python)"
  have_venv "$python"
  printf 'installing %s into .venv (5 GB, some minutes the first time)\n' "$lock"
  rm -f .venv/*.sha256
  [[ -x .venv/bin/pip ]] || "$python" -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$lock"
  printf '%s\n' "$sum" >".venv/$1.sha256"
  # The dev lock holds all of the training lock.
  [[ "$1" != dev ]] || sha256sum <docker/requirements/training.txt >.venv/training.sha256
}

main "$@"
