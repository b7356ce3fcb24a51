#!/usr/bin/env bash
# Build one image of this repository with the local Docker engine.
# usage: [BASE_IMAGE=...] [BUILD_NETWORK=...] docker/build.sh [--dry-run] IMAGE TAG...
#        docker/build.sh --version    prints what would be built: version and commit, such as 0.1.0-1a2b3c4[-dirty]
#   IMAGE is a folder of docker/ with a Dockerfile. BASE_IMAGE replaces the Dockerfile's default base, BUILD_NETWORK is
#   the network that the build reaches the package registries by. --dry-run prints the command.
set -Eeuo pipefail

main() {
  cd "$(dirname "$0")/.."
  local version commit dirty='' dry_run='' tag command
  version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' container/icemaker/__init__.py)"
  commit="$(git rev-parse --verify --quiet HEAD 2>/dev/null)" || commit=unknown
  # A commit names what is inside only if nothing differs from it.
  [[ -z "$(git status --porcelain 2>/dev/null)" ]] || dirty=-dirty
  case "${1-}" in
    --version) echo "$version-${commit::7}$dirty" && return ;;
    --dry-run) dry_run=1 && shift ;;
  esac
  local image="${1:?usage: docker/build.sh [--dry-run] IMAGE TAG...}"

  command=(docker build --file "docker/$image/Dockerfile" --platform linux/amd64
    --build-arg "VERSION=$version" --build-arg "GIT_COMMIT=$commit$dirty")
  [[ -z "${BASE_IMAGE-}" ]] || command+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
  [[ -z "${BUILD_NETWORK-}" ]] || command+=(--network "$BUILD_NETWORK")
  for tag in "${@:2}"; do command+=(--tag "$tag"); done
  # SageMaker refuses OCI indexes, which buildx makes to hold its provenance; an older client has no such option.
  if [[ -n "$dry_run" ]] || docker build --help 2>&1 | grep --quiet -- --provenance; then
    command+=(--provenance=false)
  fi
  if [[ -n "$dry_run" ]]; then
    echo "DOCKER_BUILDKIT=1 ${command[*]} ."
  else
    DOCKER_BUILDKIT=1 exec "${command[@]}" .
  fi
}

main "$@"
