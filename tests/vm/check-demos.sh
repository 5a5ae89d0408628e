#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# check-demos.sh: the demos in QEMU with less of everything than when run by hand. Prints TAP.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=../tap.sh
. "$vm_dir/../tap.sh"

cd "$vm_dir/../.."
export BUILD=${BUILD:-build}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

demo()
{
	SHMIPC_DEMO_LEAST=10000000 tests/vm/demo.sh | tee "$tmp/out"
	[[ $(tail -n 1 "$tmp/out") == 'demo-vm: passed' ]]
	# With the right provider, and a module that was at work.
	grep -q '^provider  *kernel' "$tmp/out"
	for counter in segments doorbells syncs; do
		grep -qE "^  $counter +[1-9]" "$tmp/out"
	done
}

handover()
{
	SHMIPC_DEMO_EVENTS=5 tests/vm/demo.sh demo-handover | tee "$tmp/out"
	[[ $(tail -n 1 "$tmp/out") =~ ^provider:\ kernel\ requests:\ [1-9][0-9]{4,}\ errors:\ 0\ lost:\ 0\ doubled:\ 0\ redelivered:\ [0-9]+\ upgrades:\ 5\ kills:\ 5\ pause_us:(\ [1-9][0-9]*){3}$ ]]
	grep -qE '^  commits +10$' "$tmp/out"
	grep -q '^unloaded' "$tmp/out"
}

t demo-vm demo
t demo-handover-vm handover
tap_end
