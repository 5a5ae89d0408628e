#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# qemu.sh: print the command of a QEMU that is fit for the rig, a word a line.
#
# Before 8.1, emulation with a thread a CPU could keep a stale translation of code that another CPU was patching: a
# kernel that flips a static key or a tracepoint dies of "Oops: int3", one boot in fifty by itself and within
# seconds when asked to. Where the machine's QEMU is older, Debian 12's backport of a newer one, which runs on the
# libraries of the installed one, is unpacked in the cache. selftest.sh has the test for it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$vm_dir/apt.sh"

dir=$vm_cache/qemu

fit()
{
	local version

	version=$("$1" --version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p')
	[[ $(printf '%s\n' 8.1 "${version:-0}" | sort -V | head -n 1) == 8.1 ]]
}

if [[ ${1:-} == --fetch ]]; then
	vm_note 'fetching QEMU from bookworm-backports'
	vm_apt_setup qemu bookworm-backports
	vm_apt_unpack "$dir.tmp" qemu-system-x86 qemu-system-data seabios
	fit "$dir.tmp/usr/bin/qemu-system-x86_64" ||
		vm_die 'the backport of QEMU does not run here: is qemu-system-x86 installed?'
	rm -rf "$dir"
	mv "$dir.tmp" "$dir"
	exit
fi
if fit qemu-system-x86_64; then
	echo qemu-system-x86_64
	exit
fi
vm_need apt-get dpkg-deb flock
vm_lock qemu
if [[ ! -d $dir ]]; then
	[[ ${SHMIPC_OFFLINE:-0} != 1 ]] || vm_die 'no fit QEMU in the cache and SHMIPC_OFFLINE=1'
	"$0" --fetch || vm_die 'cannot fetch QEMU'
fi
printf '%s\n' "$dir/usr/bin/qemu-system-x86_64" -L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios"
