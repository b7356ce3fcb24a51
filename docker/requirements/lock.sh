#!/usr/bin/env bash
# Write the locks beside the .in files: every package with its version and hashes, no index and no host.
# usage: docker/requirements/lock.sh [EXCLUDE_NEWER]   a date; the default leaves new releases a week
set -Eeuo pipefail

main() {
  cd "$(dirname "$0")/../.."
  local exclude_newer="${1:-$(date --utc --date '7 days ago' +%F)}" name
  for name in training dev; do
    # training.txt constrains dev.txt: tests run what the image holds.
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
      --no-emit-index-url --no-emit-find-links --no-header --exclude-newer "$exclude_newer" \
      ${constraint:+--constraint "$constraint"} \
      --output-file "docker/requirements/$name.txt" "docker/requirements/$name.in"
    local constraint="docker/requirements/$name.txt"
  done
}

main "$@"
