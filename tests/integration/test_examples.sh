#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The example programs and shmipc-perf do what they say, with whichever provider is in force.
# Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
bin=$(realpath "${BUILD:-build}")
channel=examples-$$
# Seconds that one step may take: a kernel that checks all it does is slow, and no step is about time.
patience=${SHMIPC_TEST_SLOW:+6}
patience=$((50 * ${patience:-1}))
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# start PROGRAM ARGUMENT...: a server, which ends with the test that started it.
start() {
	"$@" &
	server=$!
	trap 'kill "$server" 2>/dev/null || true' EXIT
}

# until_served COMMAND...: its server was started just now and may not have the name yet.
until_served() {
	for _ in {1..300}; do
		"$@" >"$tmp/out" 2>"$tmp/err" && return
		grep -q 'nobody listens' "$tmp/err" || break
		sleep 0.1
	done
	cat "$tmp/err"
	return 1
}

greeter() {
	start "$bin/examples/greeter_server" "$channel" 2
	until_served "$bin/examples/greeter_client" shmipc "$channel"
	[[ $(<"$tmp/out") == 'Hello, shmipc!' ]]
	until_served "$bin/examples/greeter_client" "$(printf %063d 7)" "$channel"
	[[ $(<"$tmp/out") == "Hello, $(printf %063d 7)!" ]]
	wait "$server"
}

greeter_refuses() {
	local rc=0
	"$bin/examples/greeter_client" "$(printf %064d 7)" "$channel" || rc=$?
	((rc == 2))
	rc=0
	"$bin/examples/greeter_client" shmipc "$channel" 2>"$tmp/err" || rc=$?
	cat "$tmp/err"
	((rc == 1))
	grep -q "^connect: nobody listens on \"$channel\"" "$tmp/err"
}

# load SECONDS STREAMS SESSIONS BYTES: all streams have a request under way at once, all of them
# are answered by the one thread of the server, and each second has its line.
load() {
	start "$bin/examples/stream_server" "$channel"
	until_served timeout "$patience" "$bin/examples/stream_load" -s "$1" -n "$2" -c "$3" -b "$4" "$channel"
	cat "$tmp/out"
	[[ $(sed -n 's/^Threads:[^0-9]*//p' "/proc/$server/status") == 1 ]]
	[[ $(wc -l <"$tmp/out") == $(($1 + 1)) ]]
	[[ $(grep -cE '^[0-9]+ requests/s$' "$tmp/out") == "$1" ]]
	[[ $(tail -n 1 "$tmp/out") =~ ^([0-9]+)\ requests\ on\ $2\ streams\ of\ $3\ sessions,\ up\ to\ $2\ at\ once,\ all\ answered$ ]]
	# Each stream was answered in the first round, and the seconds' sum is not more than all.
	((BASH_REMATCH[1] >= $2))
	awk -v all="${BASH_REMATCH[1]}" '/requests\/s$/ { sum += $1 } END { exit sum > all }' "$tmp/out"
}

# All steps where ownership can be moved, else the first half of them.
big_buffer() {
	local line='^[a-z, ]+ +[0-9]+\.[0-9]{3} ms$' lines=8
	timeout "$patience" "$bin/examples/big_buffer" 32 >"$tmp/out"
	cat "$tmp/out"
	if grep -qx "not given: the embedded provider can't" "$tmp/out"; then
		[[ ${SHMIPC_PROVIDER-} != kernel ]]
		lines=4
	fi
	[[ $(grep -cE "$line" "$tmp/out") == "$lines" ]]
}

# hot_line ERRORS LOST DOUBLED UPGRADES KILLS: the last line, of which each is a pattern.
hot_line() {
	tail -n 1 "$tmp/out" | grep -qE "^provider: [a-z]+ requests: [0-9]{4,} errors: $1 lost: $2 doubled: $3 \
redelivered: [0-9]+ upgrades: $4 kills: $5 pause_us: [0-9]+ [0-9]+ [0-9]+$"
}

# hot WANTED ARGUMENT...: the driver ends with the status WANTED.
hot() {
	local wanted=$1 rc=0
	shift
	timeout $((2 * patience)) "$bin/examples/hot_restart" "$@" >"$tmp/out" 2>"$tmp/err" || rc=$?
	cat "$tmp/out" "$tmp/err"
	((rc == wanted))
}

# Where the provider keeps nothing through a crash, it says so, and kills are left out.
hot_restart() {
	hot 0 -u 3 -k 3 -r 2000
	if [[ ${SHMIPC_PROVIDER-} == kernel ]]; then
		hot_line 0 0 0 3 3
	else
		grep -q '^hot_server: a crash will end all sessions: .*module' "$tmp/err"
		hot_line 0 0 0 3 0
	fi
}

hot_load() { until_served timeout "$patience" "$bin/examples/hot_load" -r 1000 "$channel" </dev/null; }

# A next version that can't even start leaves the old one serving, and the one after that takes over.
hot_bad_version() {
	local process
	cp "$bin/examples/hot_server" "$tmp/"
	start "$tmp/hot_server" "$channel"
	hot_load
	rm "$tmp/hot_server"
	kill -USR2 "$server"
	hot_load
	cp "$bin/examples/hot_server" "$tmp/"
	# Until the old one has ended: it is refused while one that was started may still adopt.
	while kill -USR2 "$server" 2>/dev/null; do
		sleep 0.1
	done
	wait "$server"
	for process in /proc/[0-9]*; do
		[[ ! $process/exe -ef $tmp/hot_server ]] || server=${process#/proc/}
	done
	hot_load
	kill "$server"
}

# A load that finds no fault would prove nothing. The server counts what it drops, too.
hot_finds() {
	hot 1 -u 0 -k 0 -r 5000 -x "$1"
	shift
	hot_line "$@" 0 0
}

perf_line='^%s +%s bytes +[1-9][0-9]* ns a round trip \([1-9][0-9]* to [1-9][0-9]*\)$'

perf_all() {
	local name n=0 re
	timeout "$patience" "$bin/tools/shmipc-perf" -n 200 -r 3 -s 4096 >"$tmp/out"
	cat "$tmp/out"
	for name in shmipc unix eventfd futex; do
		n=$((n + 1))
		# shellcheck disable=SC2059 # the format is a constant
		printf -v re "$perf_line" "$name" 4096
		[[ $(sed -n ${n}p "$tmp/out") =~ $re ]]
	done
	re='^shmipc: [1-9][0-9]* unix: [1-9][0-9]* eventfd: [1-9][0-9]* futex: [1-9][0-9]* ns per round trip$'
	[[ $(sed -n 5p "$tmp/out") =~ $re ]]
	[[ $(wc -l <"$tmp/out") == 5 ]]
}

perf_one() {
	local re
	timeout "$patience" "$bin/tools/shmipc-perf" -n 200 -r 1 shmipc >"$tmp/out"
	cat "$tmp/out"
	# shellcheck disable=SC2059 # the format is a constant
	printf -v re "$perf_line" shmipc 64
	[[ $(<"$tmp/out") =~ $re ]]
}

perf_pause() {
	local words re='4 sessions, 2 MiB, 100 requests before: +[1-9][0-9]* ns \([1-9][0-9]* to [1-9][0-9]*\)$'
	timeout 300 "$bin/tools/shmipc-perf" -r 3 --pause 4,2,100 >"$tmp/out"
	cat "$tmp/out"
	for words in pause adopt; do
		grep -qE "^$words: $re" "$tmp/out"
	done
	[[ $(wc -l <"$tmp/out") == 2 ]]
}

perf_refuses() {
	local words rc
	for words in '-s 7' '-s 0' '-n 0' '-r 0' '-r 102' '-x' '--pause 1,1' '--pause 0,1,1' \
		'--pause 1025,1,1' '--pause 1,4097,1' '--pause 1,1,1x'; do
		rc=0
		# shellcheck disable=SC2086 # words
		"$bin/tools/shmipc-perf" $words >"$tmp/out" 2>"$tmp/err" || rc=$?
		[[ $rc == 2 && ! -s $tmp/out ]] || { echo "'$words': $rc"; return 1; }
	done
}

t greeter greeter
t greeter-refuses greeter_refuses
t load-500-streams load 2 500 1 64
t load-5-sessions load 1 500 5 1000
t big-buffer big_buffer
t hot-restart hot_restart
t hot-bad-version hot_bad_version
t hot-finds-drop hot_finds drop 1 '[1-9][0-9]*' 0
t hot-finds-double hot_finds double '[01]' 0 '[1-9][0-9]*'
t hot-finds-wrong hot_finds wrong '[1-9][0-9]*' 0 0
t perf-all perf_all
t perf-one perf_one
t perf-pause perf_pause
t perf-refuses perf_refuses
tap_end
