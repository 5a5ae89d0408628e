#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# A server is upgraded and killed again and again while its clients ask and count, shown and checked
# in less than a minute. The last line has the counts; examples/hot_restart.c tells what the pause is.
# With the provider that this machine has; SHMIPC_PROVIDER forces one. Without the module there are
# no kills, and the server says why.
#
# SHMIPC_DEMO_EVENTS: so many upgrades, and as many kills.
set -euo pipefail

cd "$(dirname "$0")/.."
events=${SHMIPC_DEMO_EVENTS:-20}
exec "${BUILD:-build}/examples/hot_restart" -u "$events" -k "$events" -r 10000
