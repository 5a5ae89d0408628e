#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# shmipc-cat between real processes: what goes in comes out, either side may end first, and the exit
# status tells order from disorder. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
cat=$(realpath "${BUILD:-build}")/tools/shmipc-cat
channel=cat-$$
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# More than windows and arenas hold; on a debug kernel no more than that.
big=20000000
[[ -z ${SHMIPC_TEST_SLOW-} ]] || big=5000000
head -c "$big" /dev/urandom >"$tmp/big"
head -c 3000000 /dev/urandom >"$tmp/small"
# What is under way while a side is replaced: over the module, which means in a VM, where a MB takes a second.
block=200000 least=$big
[[ ${SHMIPC_PROVIDER-} != kernel ]] || block=20000 least=1000000
head -c "$block" /dev/urandom >"$tmp/block"

# pair LISTENER-INPUT CONNECTOR-INPUT: run both, their output in l.out and c.out, their exit
# status in l and c.
pair() {
	local pid
	l=0 c=0
	timeout 30 "$cat" -l -w 20 "$channel" <"$1" >"$tmp/l.out" 2>"$tmp/l.err" &
	pid=$!
	timeout 30 "$cat" -w 20 "$channel" <"$2" >"$tmp/c.out" 2>"$tmp/c.err" || c=$?
	wait "$pid" || l=$?
	cat "$tmp/l.err" "$tmp/c.err"
	echo "listener $l, connector $c"
}

# is STATUS STATUS FILE FILE: what pair() left.
is() {
	((l == $1 && c == $2))
	cmp "$tmp/l.out" "$3"
	cmp "$tmp/c.out" "$4"
}

forth() { pair /dev/null "$tmp/big" && is 0 0 "$tmp/big" /dev/null; }
back() { pair "$tmp/big" /dev/null && is 0 0 /dev/null "$tmp/big"; }
both() { pair "$tmp/small" "$tmp/big" && is 0 0 "$tmp/big" "$tmp/small"; }
empty() { pair /dev/null /dev/null && is 0 0 /dev/null /dev/null; }
one_byte() {
	printf x >"$tmp/x"
	pair "$tmp/x" /dev/null && is 0 0 /dev/null "$tmp/x"
}

# Two inputs that stay open and say nothing, as terminals do, until they are closed.
open_inputs() {
	rm -f "$tmp/l.in" "$tmp/c.in"
	mkfifo "$tmp/l.in" "$tmp/c.in"
	exec 8<>"$tmp/l.in" 9<>"$tmp/c.in"
}

# start SIDE INPUT OPTION...: in the background; its process is $!.
start() {
	local side=$1 input=$2
	shift 2
	# Now, and not when the process comes to it: nobody may take the last test's for this one's.
	: >"$tmp/$side.out"
	"$cat" -w 20 "$@" "$channel" <"$input" >"$tmp/$side.out" 2>"$tmp/$side.err" 8<&- 9<&- &
}

# arrived FILE FILE: within 20 s they are equal.
arrived() {
	for _ in {1..200}; do
		! cmp -s "$1" "$2" || return 0
		sleep 0.1
	done
	cmp "$1" "$2"
}

ended() {
	local rc=0
	timeout 60 tail --pid="$1" -f /dev/null
	wait "$1" || rc=$?
	echo "exit $rc, wanted $2"
	((rc == $2))
}

# The listener speaks first, to a connector that has nothing to say yet.
silent() {
	local l c
	open_inputs
	start l "$tmp/small" -l
	l=$!
	start c "$tmp/c.in"
	c=$!
	arrived "$tmp/c.out" "$tmp/small"
	# Neither may have ended: the connector's input has not.
	kill -0 "$l"
	kill -0 "$c"
	printf late >&9
	exec 9<&-
	ended "$c" 0
	ended "$l" 0
	[[ $(cat "$tmp/l.out") == late ]]
}

# killed INPUT: the connector dies; the listener waits for input that does not come.
killed() {
	local l c
	open_inputs
	start l "$tmp/l.in" -l
	l=$!
	start c "$1"
	c=$!
	# Something came through, so that it is a session that ends.
	printf hello >&8
	printf hello >"$tmp/hello"
	arrived "$tmp/c.out" "$tmp/hello"
	kill -KILL "$c"
	ended "$c" 137
	ended "$l" 1
	cat "$tmp/l.err"
	grep -q 'the peer died' "$tmp/l.err"
}

no_room() {
	local l
	start l "$tmp/big" -l
	l=$!
	c=0
	timeout 30 "$cat" -w 20 "$channel" </dev/null >/dev/full 2>"$tmp/c.err" || c=$?
	cat "$tmp/c.err"
	((c == 1))
	grep -q 'standard output: No space' "$tmp/c.err"
	ended "$l" 1
}

reader_gone() {
	start l "$tmp/big" -l
	local l=$! status
	set +o pipefail
	timeout 30 "$cat" -w 20 "$channel" </dev/null 2>"$tmp/c.err" | head -c 5 >"$tmp/head"
	status=${PIPESTATUS[0]}
	cmp "$tmp/head" <(head -c 5 "$tmp/big")
	((status == 1))
	ended "$l" 1
}

# Whoever shares the output may have made it non-blocking: dd does, for all who have it.
nonblocking_output() {
	start l "$tmp/big" -l
	local l=$!
	{
		dd if=/dev/null oflag=nonblock status=none
		timeout 30 "$cat" -w 20 "$channel" </dev/null
	} | (sleep 1; cmp - "$tmp/big")
	ended "$l" 0
}

not_there() {
	local rc=0
	"$cat" "$channel" </dev/null 2>"$tmp/err" || rc=$?
	cat "$tmp/err"
	((rc == 1))
	grep -q "$channel" "$tmp/err"
}

taken() {
	local l c rc=0
	open_inputs
	start l "$tmp/l.in" -l
	l=$!
	start c "$tmp/c.in"
	c=$!
	printf x >&9
	printf x >"$tmp/x"
	arrived "$tmp/l.out" "$tmp/x"
	# Its name is free again once it has its one connection.
	"$cat" -w 0.3 "$channel" </dev/null 2>"$tmp/err" || rc=$?
	((rc == 1))
	start 2 /dev/null -l
	local second=$!
	sleep 0.5
	rc=0
	"$cat" -l "$channel" </dev/null 2>"$tmp/err" || rc=$?
	kill "$second" "$l" "$c"
	# The next test's listener wants the name.
	wait "$second" "$l" "$c" || true
	cat "$tmp/err"
	((rc == 1))
	grep -q 'has the name' "$tmp/err"
}

stats() {
	timeout 30 "$cat" -l -w 20 --stats "$channel" </dev/null >"$tmp/l.out" 2>"$tmp/l.err" &
	local pid=$!
	timeout 30 "$cat" -w 20 --stats "$channel" <"$tmp/big" >/dev/null 2>"$tmp/c.err"
	wait "$pid"
	cat "$tmp/l.err" "$tmp/c.err"
	grep -q "sent $big bytes in [1-9][0-9]* messages, received 0 bytes" "$tmp/c.err"
	grep -q "received $big bytes in [1-9][0-9]* messages" "$tmp/l.err"
}

files() {
	timeout 30 "$cat" -l -w 20 -i "$tmp/small" -o "$tmp/o" "$channel" 2>"$tmp/l.err" &
	local pid=$!
	timeout 30 "$cat" -w 20 "$channel" <"$tmp/big" >"$tmp/c.out" 2>"$tmp/c.err"
	wait "$pid"
	cmp "$tmp/o" "$tmp/big"
	cmp "$tmp/c.out" "$tmp/small"
}

# refused OPTION...: in words that tell what would be needed.
refused() {
	local rc=0
	timeout 30 "$cat" -l "$@" -i /dev/null -o "$tmp/o" "$channel" 2>"$tmp/err" || rc=$?
	cat "$tmp/err"
	((rc == 1))
	grep -q 'module' "$tmp/err"
}

# begun OPTION...: a listener with files, which is then $l; it has written something more.
begun() {
	local before
	before=$(stat -c %s "$tmp/o" 2>/dev/null || echo 0)
	"$cat" -l --orphan=30 -i "$tmp/small" -o "$tmp/o" "$@" "$channel" 2>"$tmp/l.err" 8<&- 9<&- &
	l=$!
	for _ in {1..200}; do
		(($(stat -c %s "$tmp/o" 2>/dev/null || echo 0) <= before)) || return 0
		kill -0 "$l"
		sleep 0.1
	done
	return 1
}

# feed PID N: the N-th third of what is sent, after PID has sent the one before.
feed() {
	local third=$((big / 3 + 1))
	(($1 == 0)) || tail --pid="$1" -f /dev/null
	tail -c +$((third * ($2 - 1) + 1)) "$tmp/big" | head -c "$third" >&9
}

# The listener dies twice, with both directions under way. The connector sees nothing of it.
adopted() {
	local l c feeder
	if [[ ${SHMIPC_PROVIDER-} != kernel ]]; then
		refused --orphan=5
		refused -a
		return
	fi
	rm -f "$tmp/o" "$tmp/c.in" "$tmp/c.fifo"
	mkfifo "$tmp/c.in" "$tmp/c.fifo"
	exec 9<>"$tmp/c.in" 8<>"$tmp/c.fifo"
	"$cat" -w 20 "$channel" <"$tmp/c.in" >"$tmp/c.fifo" 2>"$tmp/c.err" 8<&- 9<&- &
	c=$!
	feed 0 1 &
	feeder=$!
	begun
	kill -KILL "$l"
	ended "$l" 137
	feed "$feeder" 2 &
	feeder=$!
	begun -a
	kill -KILL "$l"
	ended "$l" 137
	cat <"$tmp/c.fifo" >"$tmp/c.out" 8<&- 9<&- &
	feed "$feeder" 3 &
	feeder=$!
	begun -a
	ended "$feeder" 0
	exec 8<&- 9<&-
	ended "$c" 0
	ended "$l" 0
	arrived "$tmp/c.out" "$tmp/small"
	cmp "$tmp/o" "$tmp/big"
}

# flow SIDE: numbered blocks, more than is to be carried at least, and on until there is $tmp/enough.
# How many were taken is in $tmp/SIDE.blocks.
flow() {
	local i=0
	until ((i > least / block)) && [[ -e $tmp/enough ]]; do
		i=$((i + 1))
		echo "$1 $i"
		cat "$tmp/block"
		echo "$i" >"$tmp/$1.blocks"
	done
}

# piped SIDE PROGRAM OPTION...: in the background, between two pipes, and $! is it. What it was
# given and what it gave have their sums in $tmp/SIDE.given and $tmp/SIDE.gave, by $sums.
piped() {
	local side=$1 program=$2
	shift 2
	rm -f "$tmp/$side."{from,to,tee,blocks}
	mkfifo "$tmp/$side."{from,to,tee}
	sha256sum <"$tmp/$side.tee" >"$tmp/$side.given" &
	sums+=($!)
	sha256sum <"$tmp/$side.to" >"$tmp/$side.gave" &
	sums+=($!)
	flow "$side" | tee "$tmp/$side.tee" >"$tmp/$side.from" &
	"$program" -w 20 --stats "$@" "$channel" <"$tmp/$side.from" >"$tmp/$side.to" 2>"$tmp/$side.err" &
}

# two_flows PROGRAM: both ways at once between $l, which is PROGRAM, and $c, until flows_end().
two_flows() {
	sums=()
	rm -f "$tmp/enough"
	trap 'touch "$tmp/enough"' EXIT
	piped l "$1" -l
	l=$!
	piped c "$cat"
	c=$!
	moves l
	moves c
}

flows_end() {
	touch "$tmp/enough"
	ended "$c" 0
	ended "$l" 0
	wait "${sums[@]}"
	cat "$tmp/l.err" "$tmp/c.err" "$tmp/"[lc].{given,gave}
	[[ -s $tmp/l.given && -s $tmp/c.given ]]
	cmp "$tmp/l.given" "$tmp/c.gave"
	cmp "$tmp/c.given" "$tmp/l.gave"
	carried l c
	carried c l
}

# carried FROM TO: by what the last of each side counted.
carried() {
	local sent received
	sent=$(sed -n 's/.*: sent \([0-9]*\) bytes.*/\1/p' "$tmp/$1.err")
	received=$(sed -n 's/.* received \([0-9]*\) bytes.*/\1/p' "$tmp/$2.err")
	((sent == received && sent > least))
}

# until_true COMMAND...: within 30 s.
until_true() {
	for _ in {1..300}; do
		! "$@" || return 0
		sleep 0.1
	done
	echo "in vain: $*"
	cat "$tmp/l.err" "$tmp/c.err"
	return 1
}

more_blocks() { [[ -s $tmp/$1.blocks && $(<"$tmp/$1.blocks") != "$2" ]]; }
# moves SIDE: more of its input is taken than was.
moves() { until_true more_blocks "$1" "$(cat "$tmp/$1.blocks" 2>/dev/null || true)"; }

said_times() { (($(grep -c "$2" "$tmp/$1.err" || true) == $3)); }
# upgrade SIDE PID N: for the N-th time. PID is always the first one, which its shell waits for.
upgrade() {
	kill -USR2 "$2"
	until_true said_times "$1" 'goes on' "$3"
}

# Each side is replaced three times, with both directions under way.
upgraded() {
	local l c sums n
	two_flows "$cat"
	for n in 1 2 3; do
		upgrade l "$l" "$n"
		moves l
		upgrade c "$c" "$n"
		moves c
	done
	flows_end
}

# failing WORDS [COMMAND]: a successor that is this shell command, or that isn't there. A file that
# is being executed can be replaced, but not written.
failing() {
	rm -f "$tmp/program"
	if [[ -n ${2-} ]]; then
		printf '#!/bin/sh\n%s\n' "$2" >"$tmp/program"
		chmod +x "$tmp/program"
	fi
	kill -USR2 "$l"
	until_true said_times l "no upgrade: $1" 1
	moves l
	moves c
}

upgrade_fails() {
	local l c sums
	cp "$cat" "$tmp/program"
	two_flows "$tmp/program"
	failing 'the successor ended with status 127'
	failing 'the successor ended with status 3' 'exit 3'
	failing 'signal 15 ended the successor' "kill \$\$"
	# The whole time of an offer, which is the same over the module.
	[[ ${SHMIPC_PROVIDER-} == kernel ]] || failing 'the successor took too long' 'exec sleep 100'
	rm "$tmp/program"
	cp "$cat" "$tmp/program"
	upgrade l "$l" 1
	moves l
	flows_end
}

# stuck PID: more of its input than a pipe holds was read and no more is, for its peer can't write it.
stuck() {
	local before=${at-}
	at=$(awk '/^pos:/ { print $2 }' "/proc/$1/fdinfo/0" 2>/dev/null)
	((${at:-0} > 200000)) && [[ $at == "$before" ]]
}

# taken_up N: the N-th successor runs, and has nothing to do but to wait for its predecessor.
taken_up() {
	local next
	next=$(sed -n "$1p" "$tmp/successors" 2>/dev/null)
	[[ -n $next && $(readlink "/proc/$next/exe") == "$tmp/cat" && $(awk '{ print $3 }' "/proc/$next/stat") == S ]]
}

read_until_goes_on() {
	dd bs=10000 count=1 iflag=fullblock status=none <&8 >>"$tmp/l.out"
	said_times l 'goes on' 1
}

# A listener that can't write can't stop: its successor is ready, and dies, or waits until its time is over.
upgrade_fails_when_ready() {
	local l c at reader
	rm -f "$tmp/successors" "$tmp/program" "$tmp/slow"
	mkfifo "$tmp/slow"
	# Nobody reads it yet.
	exec 8<>"$tmp/slow"
	cp "$cat" "$tmp/cat"
	cp "$cat" "$tmp/program"
	"$tmp/program" -l -w 20 "$channel" </dev/null >"$tmp/slow" 2>"$tmp/l.err" 8<&- 9<&- &
	l=$!
	start c "$tmp/big"
	c=$!
	until_true stuck "$c"
	rm "$tmp/program"
	# shellcheck disable=SC2016 # of the script's
	printf '#!/bin/sh\necho $$ >>%q\nexec %q "$@"\n' "$tmp/successors" "$tmp/cat" >"$tmp/program"
	chmod +x "$tmp/program"
	kill -USR2 "$l"
	until_true taken_up 1
	kill -KILL "$(sed -n 1p "$tmp/successors")"
	until_true said_times l 'no upgrade: ' 1
	kill -USR2 "$l"
	until_true taken_up 2
	until_true said_times l 'no upgrade: ' 2
	# The third may go on when a little was read. The pipe has more than that.
	: >"$tmp/l.out"
	kill -USR2 "$l"
	until_true read_until_goes_on
	cat <"$tmp/slow" >>"$tmp/l.out" 8<&- 9<&- &
	reader=$!
	exec 8<&-
	ended "$c" 0
	ended "$l" 0
	wait "$reader"
	cmp "$tmp/big" "$tmp/l.out"
}

# One side has nothing to say, or nothing to hear, any more.
upgraded_half_closed() {
	local l c
	open_inputs
	start l /dev/null -l
	l=$!
	start c "$tmp/c.in"
	c=$!
	printf before >&9
	printf before >"$tmp/before"
	arrived "$tmp/l.out" "$tmp/before"
	upgrade l "$l" 1
	upgrade c "$c" 1
	printf between >&9
	printf beforebetween >"$tmp/between"
	arrived "$tmp/l.out" "$tmp/between"
	upgrade l "$l" 2
	upgrade c "$c" 2
	printf after >&9
	exec 9<&-
	ended "$c" 0
	ended "$l" 0
	[[ $(<"$tmp/l.out") == beforebetweenafter && ! -s $tmp/c.out ]]
}

# ended_as_one SIGNAL: what ends the first process of a side ends the side.
ended_as_one() {
	local l c
	open_inputs
	start l "$tmp/l.in" -l
	l=$!
	start c "$tmp/c.in"
	c=$!
	printf x >&9
	printf x >"$tmp/x"
	arrived "$tmp/l.out" "$tmp/x"
	upgrade l "$l" 1
	upgrade l "$l" 2
	kill -"$1" "$l"
	ended "$l" "$2"
	ended "$c" 1
	cat "$tmp/c.err"
	grep -q 'the peer died' "$tmp/c.err"
}

bad_options() {
	local rc
	for words in '' '-w 0 n' '-w x n' '-m 600 n' '-l -m 9 n' '-a n' '-l -a n' '-l --orphan=0 n' 'a b' '--nonsense n' \
		'--offer=2 n' '--offer=x n'; do
		rc=0
		# shellcheck disable=SC2086 # words
		"$cat" $words </dev/null >/dev/null 2>&1 || rc=$?
		((rc == 2)) || { echo "'$words': $rc"; return 1; }
	done
}

t forth forth
t back back
t both-at-once both
t empty empty
t one-byte one_byte
t listener-speaks-first silent
t peer-killed killed "$tmp/c.in"
t peer-killed-after-its-end killed /dev/null
t no-room-for-output no_room
t reader-of-output-gone reader_gone
t output-does-not-block nonblocking_output
t nobody-there not_there
t name-taken taken
t stats stats
t files files
t adopted-after-a-crash adopted
t upgraded-half-closed upgraded_half_closed
# One of the six is enough for a debug kernel, where the first of these alone takes three minutes.
if [[ -z ${SHMIPC_TEST_SLOW-} ]]; then
	t upgraded-in-a-transfer upgraded
	t upgrade-fails upgrade_fails
	t upgrade-fails-when-ready upgrade_fails_when_ready
	t upgraded-terminated ended_as_one TERM 143
	t upgraded-killed ended_as_one KILL 137
fi
t bad-options bad_options
tap_end
