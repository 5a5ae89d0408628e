#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# trixie-root.sh: print the folder of a Debian 13 root with what builds a module for its kernels.
#
# These, and the newest, need newer tools than Debian 12's. Made once, in the cache, by debootstrap, which needs root. It
# has empty folders to mount on: /k (kernel headers), /b (what is built), /src.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

packages=make,gcc-14,gcc,libc6-dev,libelf1t64,libssl3t64,pahole,dkms

# Runs apart, for set -e to hold: what has the final name is complete. A mount namespace of its own, so that
# an interrupted debootstrap leaves nothing mounted under what the next one removes.
make_root()
{
	local tmp=$1.tmp

	vm_need debootstrap unshare
	[[ $EUID == 0 ]] || vm_die 'the newest kernel needs root, for debootstrap and chroot'
	[[ ${SHMIPC_OFFLINE:-0} != 1 ]] || vm_die 'no Debian 13 root in the cache and SHMIPC_OFFLINE=1'
	vm_note 'making the Debian 13 root (once, about a minute)'
	rm -rf "$tmp"
	unshare -m debootstrap --variant=minbase --include="$packages" trixie "$tmp" \
		"$vm_mirror/debian" >"$1.log" 2>&1 || vm_die "debootstrap failed: see $1.log"
	rm -rf "$tmp"/var/cache/apt/archives/*.deb "$tmp"/var/lib/apt/lists/*
	mkdir "$tmp/k" "$tmp/b" "$tmp/src"
	[[ -x $tmp/usr/bin/gcc-14 && -x $tmp/usr/bin/pahole && -x $tmp/usr/sbin/dkms ]] ||
		vm_die 'the Debian 13 root is incomplete'
	mv "$tmp" "$1"
}

if [[ ${1:-} == --make ]]; then
	make_root "$2"
	exit
fi
root=$vm_cache/trixie-$(sha256sum <<<"$packages" | cut -c 1-8)
vm_lock trixie
[[ -d $root ]] || "$0" --make "$root" >&2
echo "$root"
