#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# kernel.sh FLAVOUR: have a stock Debian kernel in the cache and print its directory, which holds
#   vmlinuz   the bootable image
#   release   its uname -r
#   headers   what a module is built against (KDIR), position-independent
# FLAVOUR is bookworm (Linux 6.1), trixie (6.12), newest (the newest of trixie-backports), rt (6.1 with PREEMPT_RT),
# or debug: debug-kernel.sh's. All but rt are Debian's cloud kernels, which have what QEMU offers built in.
#
# The archive is asked for the newest name, at most once a day and never with SHMIPC_OFFLINE=1; when it
# does not answer, what the cache has is used.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$vm_dir/apt.sh"

suites_of()
{
	case $1 in
	bookworm | rt) echo bookworm bookworm-security ;;
	trixie) echo trixie trixie-security ;;
	newest) echo trixie-backports ;;
	*) vm_die "unknown flavour $1 (bookworm, trixie, newest, rt, debug)" ;;
	esac
}

# What the packages of its kernels are called, behind the version.
variant_of()
{
	[[ $1 == rt ]] && echo rt-amd64 || echo cloud-amd64
}

# Both metapackages must name the same release, else the archive is in the middle of an update.
newest_release()
{
	local image headers

	image=$(named_by image "$1")
	headers=$(named_by headers "$1")
	[[ -n $image && $image == "$headers" ]] || vm_die "image is '$image', headers are '$headers'"
	echo "$image"
}

named_by()
{
	vm_apt_field "linux-$1-$(variant_of "$2")" Depends | tr -s ', |' '\n' |
		sed -n "s/^linux-$1-\([0-9].*\)/\1/p"
}

# The packages that make up RELEASE: those of its own version, and kbuild. Modules are not needed.
packages_of()
{
	local base=${1%-*-amd64}

	apt-cache "${vm_apt_opts[@]}" depends --recurse -i "linux-image-$1" "linux-headers-$1" |
		grep -E '^linux-(image|binary|base|headers|kbuild)-' | sort -u |
		grep -F -e "$base" -e linux-kbuild-
}

# Unpack into a directory of its own and rename: what has the final name is complete.
unpack()
{
	local release=$1 tmp=$2.tmp pkgs

	mapfile -t pkgs < <(packages_of "$release")
	vm_apt_unpack "$tmp" "${pkgs[@]}"
	mv "$(find "$tmp" -name 'vmlinuz*' -type f | head -n 1)" "$tmp/vmlinuz"
	(cd "$tmp" && rm -rf lib/modules usr/share usr/lib/modules)
	echo "$release" >"$tmp/release"
	ln -s "usr/src/linux-headers-$release" "$tmp/headers"
	relocate "$tmp/headers/Makefile"
	rm -rf "$2"
	mv "$tmp" "$2"
}

# The packaged Makefile names /usr/src; make it find its neighbours wherever it was unpacked.
relocate()
{
	# shellcheck disable=SC2016 # make's variables
	sed -i -e 's|/usr/src/|$(here)/|' \
		-e '1i here := $(realpath $(dir $(lastword $(MAKEFILE_LIST)))..)' "$1"
	if grep -q /usr/src "$1"; then
		vm_die "cannot relocate $1"
	fi
}

# A process of its own, because set -e must hold in it and does not in a condition.
refresh()
{
	local flavour=$1 base=$2 release version name

	# shellcheck disable=SC2046 # one suite a word
	vm_apt_setup "$flavour" $(suites_of "$flavour")
	release=$(newest_release "$flavour")
	version=$(vm_apt_field "linux-headers-$release" Version)
	name=${release}_${version//[:\/~]/_}
	if [[ ! -e $base/$name/release ]]; then
		vm_note "fetching the $flavour kernel $release $version"
		unpack "$release" "$base/$name"
	fi
	ln -sfn "$name" "$base/current"
	touch "$base/checked"
}

ensure()
{
	local flavour=$1 base=$2

	[[ -e $base/current/release ]] && vm_fresh "$base/checked" && return
	[[ ${SHMIPC_OFFLINE:-0} != 1 ]] || vm_die "$flavour is not cached and SHMIPC_OFFLINE=1"
	"$0" --refresh "$flavour" "$base" && return
	[[ -e $base/current/release ]] || vm_die "cannot fetch the $flavour kernel"
	vm_note "could not ask for a newer $flavour kernel; using the cached one"
}

if [[ ${1:-} == --refresh ]]; then
	refresh "$2" "$3"
	exit
fi
flavour=${1:?usage: kernel.sh FLAVOUR}
[[ $flavour != debug ]] || exec "$vm_dir/debug-kernel.sh"
base=$vm_cache/kernels/$flavour
vm_need apt-get apt-cache dpkg-deb flock
suites_of "$flavour" >/dev/null
mkdir -p "$base"
vm_lock "kernel-$flavour"
ensure "$flavour" "$base"
readlink -f "$base/current"
