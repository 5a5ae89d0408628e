#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The demo with little input: it passes, shows its progress on a terminal only, and fails when what
# arrived, a count or the greeting is wrong. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
real=$(realpath "${BUILD:-build}")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export SHMIPC_DEMO_LEAST=3000000 SHMIPC_DEMO_INPUT=$tmp/input BUILD=$tmp/build
tests/demo.sh --make-input "$tmp/input" | sed 's/^/# /'

# programs: those of the build, from where one of them can be replaced.
programs() {
	rm -rf "$BUILD"
	mkdir -p "$BUILD/tools" "$BUILD/examples"
	ln -s "$real"/tools/* "$BUILD/tools/"
	ln -s "$real"/examples/* "$BUILD/examples/"
}

# replace PROGRAM BODY: by a script that knows the true one as $real.
replace() {
	rm "$BUILD/$1"
	printf '#!/bin/bash\nreal=%s\n%s\n' "$real/$1" "$2" >"$BUILD/$1"
	chmod +x "$BUILD/$1"
}

passes() {
	programs
	tests/demo.sh >"$tmp/out" 2>"$tmp/err"
	cat "$tmp/out"
	[[ ! -s $tmp/err ]]
	[[ $(tail -n 1 "$tmp/out") == 'demo: passed' ]]
	[[ $(sed -n 's/^bytes  *//p' "$tmp/out") == $(wc -c <"$tmp/input") ]]
	grep -q '^greeting  *Hello, shmipc!$' "$tmp/out"
	[[ $(sed -n 's/^demo: \(sent\|received\) *//p' "$tmp/out" | sort -u) == \
		"$(sha256sum <"$tmp/input" | cut -d ' ' -f 1)" ]]
}

# fails PROGRAM BODY SENTENCE
fails() {
	local rc=0
	programs
	replace "$1" "$2"
	tests/demo.sh >"$tmp/out" 2>"$tmp/err" || rc=$?
	cat "$tmp/out" "$tmp/err"
	((rc == 1))
	grep -q "^demo: FAILED: $3" "$tmp/err"
}

# The sender waits a little, so that it is still there at the first look.
progress() {
	programs
	# shellcheck disable=SC2016 # for the program
	replace tools/shmipc-cat '[[ $1 == --listen ]] || sleep 0.5; exec "$real" "$@"'
	TERM=xterm script -qec tests/demo.sh /dev/null >"$tmp/out" </dev/null
	tr '\r\033' '^~' <"$tmp/out"
	grep -qE $'\rdemo: +[0-9]+ %' "$tmp/out"
	grep -q $'\r\033\\[K' "$tmp/out"
	tr -d '\r' <"$tmp/out" | tail -n 1 | grep -qx 'demo: passed'
}

# shellcheck disable=SC2016 # for the programs
{
	flip='[[ $1 == --listen ]] || exec "$real" "$@"
		"$real" "$@" | { head -c 1000000; printf x; tail -c +2; }'
	miscount='[[ $1 == --listen ]] || exec "$real" "$@"
		{ "$real" "$@" 2>&1 >&3 | sed "s/received [0-9]*/received 1/" >&2; } 3>&1'
	uncounted='[[ $1 != --listen ]] || exec "$real" "$@"
		{ "$real" "$@" 2>&1 >&3 | sed "s/sent [0-9]*/sent 1/" >&2; } 3>&1'
	failing='"$real" "$@"; exit 1'
}
t passes passes
t progress-on-a-terminal progress
t wrong-byte fails tools/shmipc-cat "$flip" 'what arrived is not what was sent'
t receiver-miscounts fails tools/shmipc-cat "$miscount" 'the library did not count [0-9]* bytes received'
t sender-miscounts fails tools/shmipc-cat "$uncounted" 'the library did not count [0-9]* bytes sent'
t side-fails fails tools/shmipc-cat "$failing" 'the sender failed'
t wrong-greeting fails examples/greeter_client 'echo "Hello, nobody!"' 'no greeting'
tap_end
