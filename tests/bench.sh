#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Times of round trips, and of the pause of a planned handover, with the provider that this machine
# has; SHMIPC_PROVIDER forces one. They depend on all else that runs here: tests/vm/bench.sh counts
# instructions.
set -euo pipefail

cd "$(dirname "$0")/.."
perf=${BUILD:-build}/tools/shmipc-perf
"$perf"
for size in 1,1,128 16,1,2048 16,16,2048; do
	"$perf" --pause "$size"
done
