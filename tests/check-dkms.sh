#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# dkms builds and installs the module for a stock kernel, modprobe loads it in a VM, dkms removes it: for Debian 12's kernel
# here, for the newest one in a Debian 13 root, whose tools it needs. Prints TAP.
# Root and a mount namespace: the machine's own dkms and module folders stay as they are.
set -euo pipefail

cd "$(dirname "$0")/.."
if ((EUID != 0)); then
	echo "check-dkms needs root, for dkms"
	exit 77
fi
if [[ -z ${SHMIPC_INSTALL_NS-} ]]; then
	SHMIPC_INSTALL_NS=1 exec unshare --mount --propagation private -- "$0"
fi
# shellcheck source=tests/tap.sh
. tests/tap.sh

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
version=$(cat VERSION)

# use FLAVOUR [ROOT]: with the tools of that root, to which all paths below $root are absolute.
use() {
	flavour=$1 root=${2-}
	kernel=$(tests/vm/kernel.sh "$flavour")
	release=$(cat "$kernel/release")
	modules=$root/lib/modules/$release
	ko=$modules/updates/dkms/shmipc.ko
	enter=() src=$PWD
	if [[ -n $root ]]; then
		enter=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C) src=/src
	fi
	dkms=("DKMS_SRCTREE=/var/lib/dkms/src" "KVER=$release")
}

private_folders() {
	# A machine that never had a kernel package has no /lib/modules.
	mkdir -p "$root/lib/modules" "$root/var/lib/dkms"
	mount -t tmpfs none "$root/lib/modules"
	mount -t tmpfs none "$root/var/lib/dkms"
	mkdir "$root/var/lib/dkms/src" "$modules"
	if [[ -z $root ]]; then
		ln -s "$kernel/headers" "$modules/build"
		return
	fi
	mount --bind "$kernel" "$root/k"
	mount --bind -o ro . "$root/src"
	mount -t proc proc "$root/proc"
	mount -t tmpfs none "$root/tmp"
	ln -s /k/headers "$modules/build"
	# As the kernel's package does; this dkms only renews an index that is there.
	"${enter[@]}" depmod "$release"
}

install_module() {
	"${enter[@]}" make -C "$src" dkms-install "${dkms[@]}" ||
		{ cat "$root/var/lib/dkms/shmipc/$version/build/make.log"; return 1; }
	ls "$ko"*
	"${enter[@]}" dkms status -m shmipc | grep "shmipc/$version, $release.*installed"
}

info() {
	local v
	v=$(modinfo -F version "$ko"*)
	echo "version $v, vermagic $(modinfo -F vermagic "$ko"*)"
	[[ $v == "$version" && $(modinfo -F vermagic "$ko"*) == "$release "* ]]
	[[ $(modinfo -F license "$ko"*) == GPL* ]]
}

load_in_vm() {
	tests/vm/run.sh --flavour "$flavour" --add "$modules:/lib/modules/$release" --timeout 120 -- \
		sh -euc 'modprobe shmipc; ls -l /dev/shmipc; modprobe -r shmipc; ! test -e /dev/shmipc'
}

remove_module() {
	"${enter[@]}" make -C "$src" dkms-remove "${dkms[@]}"
	[[ -z $(find "$modules" "$root/var/lib/dkms" -name 'shmipc*') ]]
}

all_of() {
	use "$@"
	private_folders
	t "dkms-install $flavour" install_module
	# As after a change of the source under the same version.
	[[ -n $root ]] || t "dkms-install again $flavour" install_module
	t "modinfo $flavour" info
	t "modprobe-in-vm $flavour" load_in_vm
	t "dkms-remove $flavour" remove_module
}

all_of bookworm
all_of newest "$(tests/vm/trixie-root.sh)"
tap_end
