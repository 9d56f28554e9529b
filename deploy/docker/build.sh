#!/usr/bin/env bash
# Wraps a static binary into an image: deploy/docker/build.sh BINARY TAG
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

binary=${1:?path of the binary}
tag=${2:?name of the image}

if readelf --program-headers "$binary" | grep -q INTERP; then
  echo "$binary wants a dynamic linker, which an empty image does not have" >&2
  exit 1
fi
if ! docker info >/dev/null 2>&1; then
  echo "$binary is built, but no container engine answers, so no image was made." >&2
  echo "Start docker (or podman with its docker command) and run this again." >&2
  exit 1
fi

context=$(mktemp -d)
trap 'rm -rf -- "$context"' EXIT
cp -- "$binary" "$context/ringway"
cp -- config/ringway.toml "$context/ringway.toml"
docker build --file deploy/docker/Dockerfile --tag "$tag" "$context"
