#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# bench.sh: instructions per blocking round trip of 64 bytes between two processes, over /dev/shmipc and beside it
# over a Unix socket, an eventfd pair and a futex pair, all in one boot of the bookworm kernel.
#
# The guest's clock counts instructions (-icount), so a nanosecond that shmipc-perf prints is an instruction,
# whatever else this machine does. Fails if shmipc takes more than half of what the Unix socket takes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

build=${1:-${BUILD:-$vm_dir/../../build}}
work=$build/vm/bench
mkdir -p "$work"
"$vm_dir/module.sh" bookworm "$vm_dir/../.." "$work" >"$work/module.log" 2>&1 ||
	{ cat "$work/module.log"; vm_die 'the module does not build'; }
"$vm_dir/run.sh" --flavour bookworm --icount --ko "$work/shmipc.ko" --add "$build/tools/shmipc-perf:/perf" \
	--log "$work/kernel.log" --timeout "${SHMIPC_BENCH_TIMEOUT:-300}" -- \
	env SHMIPC_PROVIDER=kernel /perf -n "${SHMIPC_BENCH_ROUNDS:-5000}" | tee "$work/out"
line=$(sed -n 's/ ns per round trip\r\?$//p' "$work/out")
[[ $line =~ shmipc:\ ([0-9]+)\ unix:\ ([0-9]+) ]] || vm_die 'no result'
status=0
if ((BASH_REMATCH[1] * 2 > BASH_REMATCH[2])); then
	echo "FAIL: more than half of the Unix socket's ${BASH_REMATCH[2]}"
	status=1
fi
echo "$line instructions per round trip"
exit "$status"
