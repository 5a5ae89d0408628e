#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Run test programs that speak TAP (cmocka does when asked) and count.
#
#   run.sh [--label L] [--logs DIR] [--results FILE] [--] PROGRAM...
#
# A crash, a timeout, no tests at all, or fewer results than planned is a failure. Exit 77 is a
# skip; its reason is the last line printed. A test that skips itself first prints "skip: REASON".
# Prints "L: N" and "N passed, N failed, N skipped"; --results appends "L|P|F|S" to FILE.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
label=embedded logs=${BUILD:-build}/logs results=
while [[ ${1-} == --* ]]; do
	case $1 in
	--label) label=$2; shift 2 ;;
	--logs) logs=$2; shift 2 ;;
	--results) results=$2; shift 2 ;;
	--) shift; break ;;
	*) echo "run.sh: unknown option $1" >&2; exit 2 ;;
	esac
done
limit=${SHMIPC_TEST_TIMEOUT:-60}
logs=$logs/${label// /-}
mkdir -p "$logs"
passed=0 failed=0 skipped=0

# A reason counts as allowed only as a whole line of skips.allowed.
skip_allowed() {
	[[ ${CI-} != true ]] || grep -qxF -- "$1" "$here/skips.allowed"
}

count_skip() {
	local test=$1 reason=$2
	if [[ -n $reason ]] && skip_allowed "$reason"; then
		skipped=$((skipped + 1))
		echo "  skip $test: $reason"
	else
		failed=$((failed + 1))
		echo "  FAIL $test: a skip that is not allowed here: ${reason:-(no reason given)}"
	fi
}

why_exit() {
	case $1 in
	124 | 137) echo "no end after $limit s" ;;
	*) if (($1 > 128)); then echo "killed by signal $(($1 - 128))"; else echo "exit $1"; fi ;;
	esac
}

# Reads a log; sets planned, results_seen and bad, and counts.
count_tap() {
	local prog=$1 log=$2 line reason=
	planned=0 seen=0 bad=0
	while IFS= read -r line; do
		case $line in
		1..[0-9]*) planned=$((planned + ${line#1..})) ;;
		"skip: "*) reason=${line#skip: } ;;
		*"# SKIP"* | *"# skip"*)
			[[ $line =~ ^(not\ )?ok\ [0-9]+ ]] || continue
			seen=$((seen + 1))
			count_skip "$prog:${line##*SKIP }" "$reason"
			reason= ;;
		"ok "[0-9]*) seen=$((seen + 1)) passed=$((passed + 1)) reason= ;;
		"not ok "[0-9]*)
			seen=$((seen + 1)) failed=$((failed + 1)) bad=$((bad + 1)) reason=
			echo "  FAIL $prog: ${line#not ok }" ;;
		esac
	done <"$log"
}

run_one() {
	local path=$1 prog log rc=0 start=$SECONDS f0=$failed
	prog=$(basename "$path")
	log=$logs/$prog.log
	CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 "$limit" "$path" >"$log" 2>&1 </dev/null || rc=$?
	if ((rc == 77)); then
		count_skip "$prog" "$(tail -n 1 "$log" | sed 's/^skip: //')"
		return
	fi
	count_tap "$prog" "$log"
	# One more failure for what the lines do not show: a crash, a leak report, a lost result.
	if ((rc != 0 && bad == 0)); then
		failed=$((failed + 1))
		echo "  FAIL $prog: $(why_exit "$rc") after $seen of $planned tests"
	elif ((seen == 0 || seen != planned)); then
		failed=$((failed + 1))
		echo "  FAIL $prog: $seen results of $planned planned"
	fi
	if ((failed > f0)); then
		echo "  ---- $log"
		tail -n 40 "$log" | sed 's/^/  | /'
	else
		echo "  ok   $prog: $seen tests, $((SECONDS - start)) s"
	fi
}

if (($# == 0)); then
	failed=1
	echo "  FAIL $label: no test programs"
fi
for p in "$@"; do
	run_one "$p"
done
[[ -z $results ]] || echo "$label|$passed|$failed|$skipped" >>"$results"
echo "$label: $passed"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
