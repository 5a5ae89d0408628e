#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# A client that uses the other provider is told so at once, in one sentence, by a program of its
# own; only where the module is loaded. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
bin=$(realpath "${BUILD:-build}")
channel=mismatch-$$
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

client() { SHMIPC_PROVIDER=$1 timeout 30 "$bin/examples/greeter_client" shmipc "$channel"; }

# met SERVER CLIENT SENTENCE: refused while the server lives, who then greets one of its own kind.
met() {
	local rc=0
	SHMIPC_PROVIDER=$1 "$bin/examples/greeter_server" "$channel" 1 2>"$tmp/server" &
	server=$!
	trap 'kill "$server" 2>/dev/null || true' EXIT
	for _ in {1..300}; do
		rc=0
		client "$2" >"$tmp/out" 2>"$tmp/err" || rc=$?
		grep -q 'nobody listens' "$tmp/err" || break
		sleep 0.1
	done
	cat "$tmp/err"
	[[ $rc == 1 && ! -s $tmp/out ]]
	[[ $(<"$tmp/err") == "connect: \"$channel\" is served by $3" ]]
	client "$1" >"$tmp/out"
	[[ $(<"$tmp/out") == 'Hello, shmipc!' ]]
	wait "$server"
	[[ ! -s $tmp/server ]]
}

# What listens there is the kernel provider when nobody says which: the module is loaded.
unset SHMIPC_PROVIDER
t kernel-met-by-embedded met kernel embedded \
	"the kernel provider or another version: load the module here as well, or use SHMIPC_PROVIDER=embedded there"
t embedded-met-by-kernel met embedded kernel \
	"the embedded provider: use SHMIPC_PROVIDER=embedded here, or restart the server where it can open the module"
t default-is-kernel met '' embedded \
	"the kernel provider or another version: load the module here as well, or use SHMIPC_PROVIDER=embedded there"
tap_end
