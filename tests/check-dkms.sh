#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# dkms builds and installs the module for a stock kernel, modprobe loads it in a VM, dkms removes it.
# Prints TAP. Root and a mount namespace: the machine's own dkms and module folders stay as they are.
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

flavour=bookworm
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
kernel=$(tests/vm/kernel.sh "$flavour")
release=$(cat "$kernel/release")
version=$(cat VERSION)
modules=/lib/modules/$release
ko=$modules/updates/dkms/shmipc.ko
dkms=("DKMS_SRCTREE=$tmp/src" "KVER=$release")

private_folders() {
	# A machine that never had a kernel package has no /lib/modules.
	mkdir -p /lib/modules /var/lib/dkms "$tmp/src"
	mount -t tmpfs none /lib/modules
	mount -t tmpfs none /var/lib/dkms
	mkdir "$modules"
	ln -s "$kernel/headers" "$modules/build"
}

install_module() {
	make dkms-install "${dkms[@]}"
	ls "$ko"*
	dkms status -m shmipc | grep "shmipc/$version, $release.*installed"
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
	make dkms-remove "${dkms[@]}"
	[[ -z $(find "$modules" -name 'shmipc*') ]]
	[[ -z $(find "$tmp/src" /var/lib/dkms -name 'shmipc*') ]]
}

private_folders
t dkms-install install_module
t modinfo info
t modprobe-in-vm load_in_vm
t dkms-remove remove_module
tap_end
