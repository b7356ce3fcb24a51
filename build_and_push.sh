#!/usr/bin/env bash
# Build an image and push it to Amazon ECR, in the account and region of the AWS CLI's credentials.
# usage: [BASE_IMAGE=...] [BUILD_NETWORK=...] ./build_and_push.sh [--dry-run] [--region REGION] IMAGE [TAG]
#   IMAGE    training
#   TAG      default: version and commit, such as 0.1.0-1a2b3c4; a tag is written once, the repository keeps it
#   --dry-run prints the commands and needs neither credentials nor Docker; ACCOUNT stands for the account id
set -Eeuo pipefail

fail() {
  printf 'build_and_push.sh: %s\n' "$*" >&2
  exit 2
}

# usage: run COMMAND...    shows the command, and runs it unless this is a dry run
run() {
  echo "$*"
  [[ -n "$dry_run" ]] || "$@"
}

make_repository() {
  local error look=(aws ecr describe-repositories --region "$region" --repository-names "$repository")
  echo "${look[*]}"
  if [[ -z "$dry_run" ]]; then
    error="$("${look[@]}" 2>&1 >/dev/null)" && return
    [[ "$error" == *RepositoryNotFoundException* ]] || fail "Repository '$repository' can't be looked up: $error"
  fi
  run aws ecr create-repository --region "$region" --repository-name "$repository" --image-tag-mutability IMMUTABLE
}

# The token goes from one program to the other; no command line, file or log holds it.
log_in() {
  echo "aws ecr get-login-password --region $region | docker login --username AWS --password-stdin $registry"
  [[ -n "$dry_run" ]] ||
    aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "$registry"
}

main() {
  local dry_run='' region="${AWS_REGION:-${AWS_DEFAULT_REGION-}}" account=ACCOUNT suffix=amazonaws.com arguments=()
  while (($#)); do
    case "$1" in
      --dry-run) dry_run=1 ;;
      --region) region="${2:?--region needs a region, such as eu-west-1}" && shift ;;
      -*) fail "Unknown option '$1'. Options are --dry-run and --region REGION." ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
  cd "$(dirname "$0")"
  local image="${arguments[0]-}" images=(docker/*/Dockerfile) version
  images=("${images[@]#docker/}")
  [[ -n "$image" && -f "docker/$image/Dockerfile" ]] ||
    fail "There is no image '$image'. There is now: ${images[*]%/Dockerfile}"
  version="$(docker/build.sh --version)"
  if [[ "$version" == *-dirty || "$version" == *-unknown ]]; then
    [[ -n "$dry_run" ]] || fail 'The tree differs from its commit, or has none. Commit first: a tag names a commit.'
    echo 'build_and_push.sh: warning: the working tree differs from its commit; a push would be refused.' >&2
  fi
  export AWS_PAGER=''
  region="${region:-$(aws configure get region 2>/dev/null || true)}"
  region="${region:-${dry_run:+REGION}}"
  [[ -n "$region" ]] || fail 'No region is set. Give --region REGION, or set AWS_REGION.'
  [[ -n "$dry_run" ]] || account="$(aws sts get-caller-identity --region "$region" --query Account --output text)"
  case "$region" in
    cn-*) suffix=amazonaws.com.cn ;;
    eusc-*) suffix=amazonaws.eu ;;
  esac
  # AmazonSageMakerFullAccess may push only to repositories with "sagemaker" in their name.
  local repository="sagemaker-icemaker-$image" registry="$account.dkr.ecr.$region.$suffix"
  local uri="$registry/$repository:${arguments[1]:-$version}"
  docker/build.sh ${dry_run:+--dry-run} "$image" "$uri"
  make_repository
  log_in
  # SageMaker hosting takes Docker manifests only: push from Docker's classic image store, not from containerd's.
  run docker push "$uri"
}

main "$@"
