#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The benchmark, with the provider that this machine has (SHMIPC_PROVIDER forces one) and with all peers that are
# installed: ten minutes. Text on stdout, the report in BUILD/bench. Times depend on all else that runs here:
# tests/vm/bench.sh counts instructions.
set -euo pipefail

cd "$(dirname "$0")/.."
build=${BUILD:-build}
# Who may not install them does without, and the report says what is missing.
tests/deps.sh bench || echo "bench: goes on without these" >&2
"$build/tools/shmipc-perf" --bench --report "$build/bench"
echo "the report: $build/bench/report.md, .json, .svg, .png"
