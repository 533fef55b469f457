#!/usr/bin/env bash
# Builds the programs the end-to-end tests run, unless they are there already.
#
#   build.sh [PART...]     a part is a folder beside this script that holds a
#                          go.mod and a tools.go (or is a Kubernetes, and has the one of
#                          the folder kubernetes), or a list of Debian packages:
#                          "packages" that debootstrap makes a tree of, "debs"
#                          that lie over such a tree; without one, every part
#
# Prints one line a part: its name, a tab, and the directory of its programs.
# All else goes to stderr. The programs lie outside the repository, in a
# directory named after what they were built from, so a changed version is
# built again and going back to the old one costs nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ETCD_REWIND_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-rewind-e2e}

# What is built must not depend on the developer's go.work or GOFLAGS.
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly

# linker_flags PART prints what -ldflags gets. Kubernetes' programs refuse or
# misjudge each other's versions unless they are told their own.
linker_flags() {
	local version major minor p
	printf -- '-s -w'
	case $1 in
	kubernetes*)
		p=k8s.io/component-base/version
		version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
		IFS=. read -r major minor _ <<<"${version#v}"
		printf -- ' -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
			"$p" "$version" "$p" "$major" "$p" "$minor" "$p"
		;;
	containerd*)
		p=github.com/containerd/containerd/v2
		version=$(go list -m -f '{{.Version}}' "$p")
		printf -- ' -X %s/version.Version=%s' "$p" "$version"
		;;
	esac
}

# tags PART prints build tags: what needs a C compiler and headers is left out.
tags() {
	if [[ $1 == containerd* ]]; then echo no_btrfs; fi
}

# tools prints which file imports the programs of the part in this directory:
# that of another Kubernetes where it has none of its own. (To tidy such a go.mod,
# copy the file there for a moment.)
tools() {
	if [[ -f tools.go ]]; then echo tools.go; else echo ../kubernetes/tools.go; fi
}

# programs PART DIR builds the programs of a part into a directory.
programs() {
	local packages
	# -e: go list frowns on imports of package main, which is what these are.
	packages=$(go list -e -tags "tools,$(tags "$1")" -f '{{join .Imports "\n"}}' "$(tools)")
	# shellcheck disable=SC2086 # one package a word
	nice go build -trimpath -tags "$(tags "$1")" -ldflags "$(linker_flags "$1")" -o "$2/" $packages >&2
	# etcd's package is called server; its program is not.
	if [[ -f $2/server ]]; then mv "$2/server" "$2/etcd"; fi
}

# release prints the name of this machine's Debian.
release() {
	# shellcheck source=/dev/null
	(. /etc/os-release && echo "$VERSION_CODENAME")
}

# mirror prints the first address that this machine gets packages from.
mirror() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		sed -nE 's,^(URIs:|deb( \[[^]]*\])?) *(https?://[^ ]*debian/?)( .*)?$,\3,p' | head -n 1
}

# tree DIR makes a Debian of the listed packages in a directory, as every host
# starts from it: without keys and without an id.
tree() {
	local include
	include=$(grep -v '^#' packages | paste -sd ,)
	nice debootstrap --variant=minbase --include="$include" "$(release)" "$1" "$(mirror)" >"$1.log" 2>&1 ||
		{ tail -n 20 "$1.log" "$1/debootstrap/debootstrap.log" >&2; return 1; }
	rm -rf "$1.log" "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/etc/ssh/ssh_host_* "$1"/usr/share/{doc,man,locale}/*
	: >"$1/etc/machine-id"
	mkdir -p "$1/var/log/journal" # kept over a reboot
	# Hosts that have one say so themselves, and none has a console.
	systemctl --root="$1" -q disable containerd.service
	systemctl --root="$1" -q mask getty@tty1.service console-getty.service
	# No package is added later; its timers would only start at odd times.
	systemctl --root="$1" -q disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
}

# debs DIR unpacks the listed packages, and nothing that they depend on, into a
# directory.
debs() {
	local downloads
	downloads=$(mktemp -d)
	chmod 755 "$downloads" # apt downloads as a user of its own
	# shellcheck disable=SC2046 # one package a word
	(cd "$downloads" && apt-get -q download $(grep -v '^#' "$here/$part/debs") >&2) ||
		{ apt-get -q update >&2 && cd "$downloads" && apt-get -q download $(grep -v '^#' "$here/$part/debs") >&2; }
	for deb in "$downloads"/*.deb; do dpkg-deb -x "$deb" "$1"; done
	for dir in bin sbin lib; do # links of a tree, which a directory would hide
		if [[ -d $1/$dir ]]; then mkdir -p "$1/usr/$dir" && cp -a "$1/$dir/." "$1/usr/$dir/" && rm -r "${1:?}/$dir"; fi
	done
	rm -rf "$downloads" "$1"/usr/share/{doc,man,locale}
}

build() {
	local part=$1 key out building
	cd "$here/$part"
	if [[ -f packages ]]; then
		key=$({ release && cat packages && declare -f tree; } | sha256sum)
	elif [[ -f debs ]]; then
		key=$({ release && cat debs && declare -f debs; } | sha256sum)
	else
		key=$(cat go.mod "$(tools)" | sha256sum)
	fi
	out=$cache/$part-${key:0:12}

	if [[ ! -d $out ]]; then
		# Two test runs at once: the second waits here and finds it done.
		exec 9>"$out.lock"
		flock 9
		if [[ ! -d $out ]]; then
			echo "building $part into $out" >&2
			building=$(mktemp -d "$cache/.building-$part.XXXXXX")
			# shellcheck disable=SC2064 # the name as it is now
			trap "rm -rf '$building'" EXIT
			if [[ -f packages ]]; then
				tree "$building"
			elif [[ -f debs ]]; then
				debs "$building"
			else
				programs "$part" "$building"
			fi
			chmod 755 "$building"
			mv "$building" "$out"
		fi
		exec 9>&-
	fi
	printf '%s\t%s\n' "$part" "$out"
}

mkdir -p "$cache"
parts=("$@")
if ((${#parts[@]} == 0)); then
	for file in "$here"/*/{go.mod,packages,debs}; do parts+=("$(basename "$(dirname "$file")")"); done
fi
for part in "${parts[@]}"; do
	(build "$part")
done
