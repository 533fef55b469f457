#!/usr/bin/env bash
# Builds the programs the end-to-end tests run, unless they are there already.
#
#   build.sh [PART...]     a part is a folder beside this script that holds a
#                          go.mod and a tools.go; without one, every part
#
# Prints one line a part: its name, a tab, and the directory of its programs.
# All else goes to stderr. The programs lie outside the repository, in a
# directory named after what they were built from, so a changed version is
# built anew and going back to the old one costs nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ETCD_REWIND_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-rewind-e2e}

# What is built must not depend on the developer's go.work or GOFLAGS.
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly

# linker_flags PART prints what -ldflags gets. Kubernetes' programs refuse or
# misjudge each other's versions unless they are told their own.
linker_flags() {
	printf -- '-s -w'
	if [[ $1 == kubernetes ]]; then
		local version major minor p=k8s.io/component-base/version
		version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
		IFS=. read -r major minor _ <<<"${version#v}"
		printf -- ' -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
			"$p" "$version" "$p" "$major" "$p" "$minor" "$p"
	fi
}

build() {
	local part=$1 key out building packages
	cd "$here/$part"
	key=$(cat go.mod tools.go | sha256sum)
	out=$cache/$part-${key:0:12}

	if [[ ! -d $out ]]; then
		# Two test runs at once: the second waits here and finds it done.
		exec 9>"$out.lock"
		flock 9
		if [[ ! -d $out ]]; then
			echo "building $part into $out" >&2
			# -e: go list frowns on imports of package main, which is what these are.
			packages=$(go list -e -tags tools -f '{{join .Imports "\n"}}' .)
			building=$(mktemp -d "$cache/.building-$part.XXXXXX")
			# shellcheck disable=SC2064 # the name as it is now
			trap "rm -rf '$building'" EXIT
			# shellcheck disable=SC2086 # one package a word
			nice go build -trimpath -ldflags "$(linker_flags "$part")" -o "$building/" $packages >&2
			# etcd's package is called server; its program is not.
			if [[ -f $building/server ]]; then mv "$building/server" "$building/etcd"; fi
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
	for mod in "$here"/*/go.mod; do parts+=("$(basename "$(dirname "$mod")")"); done
fi
for part in "${parts[@]}"; do
	(build "$part")
done
