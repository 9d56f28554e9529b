#!/usr/bin/env bash
# The Debian package in a small Debian with a real systemd: installed, started, reloaded, killed, restarted
# under load, upgraded, removed. `make full` runs it, since it needs root and minutes.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

if [ -z "${RINGWAY_FULL-}" ]; then
  echo "skipped: make full runs it"
  exit 0
fi
packages=$PWD/target/test-packages
mkdir -p "$packages"
# package NAME REVISION: of the gateway that the other tests run, since its own build takes long.
package() {
  cargo deb --quiet --fast --no-build --no-strip --deb-revision "$2" --output "$packages/$1.deb"
}
package old 1 && package new 2 && exec python3 tests/deploy/service.py "$packages"
