#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# total.sh PART RESULTS: print the counts and the sum, which comes last; fail if anything did,
# or if a suite has fewer passes than tests/counts.list, the last committed, says. A suite that the
# list has no row for in PART is held to its row in "check", if it was run.
# total.sh --update PART RESULTS: put these counts into the list.
#
# A line of RESULTS is LABEL|PASSED|FAILED|SKIPPED[|KEY]; KEY stands for a label that carries a
# kernel's release.
set -euo pipefail

list=$(dirname "$0")/counts.list
if [[ $1 == --update ]]; then
	awk -F'|' -v part="$2" '
		NR == FNR { got[part "|" (NF > 4 ? "kernel " $5 : $1)] = $2; next }
		/^#/ || !(($1 "|" $2) in got) { print; next }
		{ print $1 "|" $2 "|" got[$1 "|" $2]; delete got[$1 "|" $2] }
		END { for (k in got) print k "|" got[k] }' "$3" "$list" >"$list.new"
	{ grep '^#' "$list.new"; grep -v '^#' "$list.new" | sort; } >"$list"
	rm "$list.new"
	exit
fi

part=$1 passed=0 failed=0 skipped=0
declare -A count=()
echo
while IFS='|' read -r label p f s key; do
	echo "$label: $p"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[[ -z $key ]] || label="kernel $key"
	count[$label]=$((${count[$label]-0} + p))
done <"$2"
declare -A floor=()
while IFS='|' read -r at label want; do
	if [[ $at == "$part" || $at == check && -v count[$label] && ! -v floor[$label] ]]; then
		floor[$label]=$want
	fi
done < <(grep -v '^#' "$list")
for label in "${!floor[@]}"; do
	want=${floor[$label]}
	if ((${count[$label]-0} < want)); then
		echo "FAIL $label: ${count[$label]-0} passed, $want when last committed"
		failed=$((failed + 1))
	fi
done
if ((passed == 0 && failed == 0)); then
	echo "FAIL $part: nothing was run"
	failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
