#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# bench.sh: what can be counted exactly, over /dev/shmipc in one boot of the bookworm kernel: instructions per blocking
# round trip of 64 bytes between two processes, and beside it over a Unix socket, an eventfd pair and a futex pair; those
# that it takes to ring for 64 peers that sleep; and those that a planned handover keeps a client waiting, by sessions, by
# MiB in buffers and by earlier requests.
#
# The guest's clock counts instructions (-icount), so a nanosecond that shmipc-perf prints is an instruction,
# whatever else this machine does. Fails if shmipc takes more than half of what the Unix socket takes, if ringing for 64
# takes more than 0.75 of 64 writes to eventfds, or 0.25 where one endpoint has all 64 sessions, or if sixteen times the
# requests before it make a handover more than 3 % longer.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

# SESSIONS,MIB,REQUESTS; 0: sessions that were never used.
usual=16,1,2048 busy=16,1,32768
pauses=('1,1,2048' "$usual" '64,1,2048' '256,1,2048' '16,16,2048' '16,256,2048' '16,1,0' "$busy")

build=${1:-${BUILD:-$vm_dir/../../build}}
work=$build/vm/bench
mkdir -p "$work"
"$vm_dir/module.sh" bookworm "$vm_dir/../.." "$work" >"$work/module.log" 2>&1 ||
	{ cat "$work/module.log"; vm_die 'the module does not build'; }
# shellcheck disable=SC2016 # the guest's
"$vm_dir/run.sh" --flavour bookworm --icount --ko "$work/shmipc.ko" --add "$build/tools/shmipc-perf:/perf" \
	--mem 4096 --log "$work/kernel.log" --timeout "${SHMIPC_BENCH_TIMEOUT:-600}" -- \
	sh -c 'export SHMIPC_PROVIDER=kernel
		/perf -n "$1" && /perf --bells 64 && shift && for size; do /perf --pause "$size" || exit; done' \
	sh "${SHMIPC_BENCH_ROUNDS:-5000}" "${pauses[@]}" | tee "$work/out"

# Of "pause:" or "adopt:" of a size.
median()
{
	local IFS=, size

	read -ra size <<<"$2"
	sed -n "s/^$1: ${size[0]} sessions, ${size[1]} MiB, ${size[2]} requests before: *\([0-9]*\) ns.*/\1/p" "$work/out"
}

# Of "bells: 64" of a kind.
rung()
{
	sed -n "s/^bells: 64 $1: *\([0-9]*\) ns.*/\1/p" "$work/out"
}

# bells KIND PERCENT: of what the eventfds take.
bells()
{
	local writes kind

	writes=$(rung eventfds) kind=$(rung "$1")
	[[ -n $writes && -n $kind ]] || vm_die 'no result of the bells'
	echo "64 $1 are rung for in $kind instructions, 64 eventfds are written to in $writes"
	((kind * 100 > writes * $2)) || return 0
	echo "FAIL: more than $2 % of it"
	status=1
}

table()
{
	local size

	echo "a planned handover, instructions:"
	printf '%10s %6s %9s %12s %12s\n' sessions MiB requests adopted answered
	for size in "${pauses[@]}"; do
		# shellcheck disable=SC2086 # three words
		printf '%10s %6s %9s %12s %12s\n' ${size//,/ } "$(median adopt "$size")" "$(median pause "$size")"
	done
}

line=$(sed -n 's/ ns per round trip\r\?$//p' "$work/out")
[[ $line =~ shmipc:\ ([0-9]+)\ unix:\ ([0-9]+) ]] || vm_die 'no result'
status=0
if ((BASH_REMATCH[1] * 2 > BASH_REMATCH[2])); then
	echo "FAIL: more than half of the Unix socket's ${BASH_REMATCH[2]}"
	status=1
fi
bells 'sessions of as many endpoints' 75
bells 'sessions of one endpoint' 25
table
few=$(median pause "$usual") many=$(median pause "$busy")
[[ -n $few && -n $many ]] || vm_die 'no result of a handover'
if ((many * 100 > few * 103)); then
	echo "FAIL: a handover takes $many after sixteen times the requests, else $few"
	status=1
fi
echo "$line instructions per round trip"
exit "$status"
