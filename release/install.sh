#!/usr/bin/env bash
# Installs what release/try needs. Does nothing when it is there.
set -euo pipefail
if command -v debootstrap >/dev/null && command -v rpm >/dev/null; then exit 0; fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
apt-get install -q -y --no-install-recommends debootstrap rpm >&2
