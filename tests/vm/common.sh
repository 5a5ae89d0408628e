# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash disable=SC2034 # the variables are its users'
# common.sh: what the scripts of the VM rig share. Sourced, never run.

vm_cache=${SHMIPC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shmipc}
vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vm_mirror=${SHMIPC_MIRROR:-http://deb.debian.org}

# vm_die MESSAGE [CODE]: 4 is "the rig itself failed", apart from every verdict on what it ran.
vm_die()
{
	echo "${0##*/}: $1" >&2
	exit "${2:-4}"
}

vm_note()
{
	echo "${0##*/}: $1" >&2
}

vm_need()
{
	local tool

	for tool; do
		command -v "$tool" >/dev/null || vm_die "$tool not found; the packages are listed in tests/vm/run.sh"
	done
}

# vm_lock NAME: hold NAME's lock until this process ends.
vm_lock()
{
	mkdir -p "$vm_cache"
	exec {vm_lock_fd}>"$vm_cache/.$1.lock"
	flock "$vm_lock_fd"
}

# vm_fresh FILE: FILE is less than a day old, or nobody may be asked.
vm_fresh()
{
	[[ ${SHMIPC_OFFLINE:-0} == 1 ]] || [[ -n $(find "$1" -mmin -1440 2>/dev/null) ]]
}
