#!/usr/bin/env bash
# Installs the Debian packages the end-to-end tests need, and those that are
# named for a target of its own. Does nothing, and
# needs no network, when they are all there.
set -euo pipefail

packages=(
	containerd runc # the node's container runtime
	iproute2        # network namespaces, the bridge
	util-linux      # nsenter, unshare, flock, setsid
	busybox-static  # the base of every image
	tmux            # tests that look at the wizard's screen
	curl procps     # the restore by hand, in the outage benchmark
	openssh-server openssh-client # between the nodes of a cluster
	systemd-container debootstrap # hosts with systemd
	e2fsprogs xfsprogs # file systems in loop devices, in the staging benchmark
	"$@"
)

missing=()
for package in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	if [[ $status != installed ]]; then missing+=("$package"); fi
done
if ((${#missing[@]} == 0)); then exit 0; fi

echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
if [[ " ${missing[*]} " == *" openssh-server "* ]]; then
	# The nodes start their own: nothing is to listen on this machine. Debian's
	# ssh.service heeds this file.
	mkdir -p /etc/ssh
	touch /etc/ssh/sshd_not_to_be_run
fi
apt-get update -q >&2
apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
