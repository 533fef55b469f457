#!/usr/bin/env bash
# Installs what release/try and release/arm64 need. Does nothing when it is there.
set -euo pipefail
if command -v debootstrap >/dev/null && command -v rpm >/dev/null && command -v qemu-aarch64 >/dev/null; then exit 0; fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
apt-get install -q -y --no-install-recommends debootstrap rpm qemu-user >&2
