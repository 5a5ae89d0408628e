#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The benchmark says what it should, in its quick form: no figure is judged here. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
perf=${BUILD:-build}/tools/shmipc-perf
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Each check of the JSON is a jq expression that has to be true.
holds() { jq -e "$1" "$tmp/json" >/dev/null || { echo "not so: $1"; return 1; }; }

run() { timeout 100 "$perf" --bench --quick -r 1 --json --report "$tmp/report" >"$tmp/json"; }

rows_sane() {
	local workload
	for workload in ping-pong one-way channels buffer memcpy connect handover; do
		holds "[.rows[] | select(.workload == \"$workload\" and .ns)] | length > 0"
	done
	holds '[.rows[] | select(.missing | not)] | all(.ns.median > 0 and .ns.min <= .ns.median and
		.ns.median <= .ns.max and .in_class >= 1 and (.samples | length) >= 1)'
	# Nobody answers without having run. One who waits on one CPU sleeps, or gives it away.
	holds '[.rows[] | select(.ns and .workload != "handover")] | all(.cpu_ns.median > 0 and .kib.median > 0)'
	holds '[.rows[] | select(.ns and .workload == "ping-pong" and .place == "one CPU" and .transport != "shmipc")] |
		all(.sleeps.median > 0.9)'
}

# What both ends must call at least is known: the floors sleep and wake, a socket writes and reads. The server's
# last read may come after the client has seen the end.
calls_counted() {
	holds '[.rows[] | select(.workload == "ping-pong" and .variant == "" and .place == "one CPU" and .bytes == 64
		and .transport == "unix")] | all(.system_calls > 3.9 and .system_calls < 4.2)'
	holds '[.rows[] | select(.workload == "ping-pong" and .variant == "" and .place == "one CPU" and .bytes == 64
		and .transport == "shmipc")] | all(.system_calls > 1.9 and .system_calls < 6)'
}

# Only what a package brings, or what the machine has not, may be missing.
missing_said() {
	holds '[.rows[] | select(.missing)] | all((.missing | length) > 0)'
	holds '[.rows[] | select(.missing) | .transport] - ["libqb", "zeromq", "nng", "mq"] == [] or .pinned[1] == -1'
}

judged() {
	holds '[.verdicts[] | select(.number == "floor")] | length == 3'
	holds '[.verdicts[] | .state] - ["reached", "missed", "void", "absent"] == []'
	holds '[.verdicts[] | select(.state == "reached" or .state == "missed")] | all(.value >= 0)'
}

reported() {
	diff "$tmp/json" "$tmp/report/report.json"
	grep -q '^| shmipc |.* us ' "$tmp/report/report.md"
	grep -q '^## ping-pong, blocking, one CPU' "$tmp/report/report.md"
	command -v gnuplot >/dev/null || return 0
	grep -q '<svg' "$tmp/report/report.svg"
	[[ $(head -c 4 "$tmp/report/report.png" | tail -c 3) == PNG ]]
}

# A row of which one byte was wrong has no figure, and the run fails.
wrong_byte() {
	local rc=0
	SHMIPC_PERF_WRONG_BYTE=1 timeout 100 "$perf" --bench --quick -r 1 --json shmipc unix ring >"$tmp/json" 2>"$tmp/err" || rc=$?
	[[ $rc == 1 ]]
	holds '[.rows[] | select(.workload == "ping-pong" or .workload == "one-way" or .workload == "channels" or
		.workload == "buffer")] | all(.missing | startswith("a wrong byte in the payload"))'
	grep -q 'a wrong byte in the payload' "$tmp/err"
}

refuses() {
	local words rc
	for words in '--quick' '--json' '--report x' '--bench -r 0' '--bench -r 25' '--bench nobody' \
		'--only ping-pong' '--bench --only nothing' '--bells 0' '--bells 1025' '--bells 4 unix' \
		'--bench --pause 1,1,1' '--pause 1,1,1 unix' 'ring' 'memcpy'; do
		rc=0
		# shellcheck disable=SC2086 # words
		"$perf" $words >"$tmp/out" 2>"$tmp/err" || rc=$?
		[[ $rc == 2 && ! -s $tmp/out ]] || { echo "'$words': $rc"; return 1; }
	done
}

bells() {
	local kind
	timeout 100 "$perf" -r 3 -c "$(taskset -cp $$ | sed 's/.*: //;s/[-,].*//')" --bells 8 >"$tmp/out"
	cat "$tmp/out"
	for kind in eventfds 'sessions of as many endpoints' 'sessions of one endpoint'; do
		grep -qE "^bells: 8 $kind: +[1-9][0-9]* ns \\([1-9][0-9]* to [1-9][0-9]*\\)\$" "$tmp/out"
	done
	[[ $(wc -l <"$tmp/out") == 3 ]]
}

t runs run
t rows-sane rows_sane
t calls-counted calls_counted
t missing-said missing_said
t judged judged
t reported reported
t wrong-byte wrong_byte
t bells bells
t refuses refuses
tap_end
