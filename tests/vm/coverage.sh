#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# coverage.sh {OUTPUT MODULEDIR}...: how much of each of the module's sources VMs ran.
#
# OUTPUT is what a guest printed, with the lines of guest-coverage.sh; MODULEDIR is where module.sh built its module, with
# GCOV_PROFILE=y. A line counts that one of them ran. Prints "coverage FILE: N of N lines, N %" for each; less than 85 % is a "FAIL",
# with the lines that were not run, and so is a source without counters.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

least=85
[[ $# -ge 2 && $(($# % 2)) == 0 ]] || vm_die 'usage: coverage.sh {OUTPUT MODULEDIR}...'
vm_need gcov gzip base64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0

# unpack OUTPUT MODULEDIR DIR: gcov's reading of each source, in DIR.
unpack()
{
	local output=$1 module=$2 source name

	mkdir "$3"
	for source in "$module"/src/kmod/*.c; do
		name=$(basename "$source" .c)
		awk -v name="$name.gcda" '$1 == "GCDA" && $2 == name { print $3 }' "$output" | tr -d '\r' |
			base64 -d | gzip -dc >"$3/$name.gcda" 2>/dev/null || true
		cp "${source%.c}.gcno" "$3/"
		(cd "$3" && gcov -r -s "$module/src" "$name.gcda") >/dev/null 2>&1 || true
	done
}

module=$(readlink -f "$2")
while [[ $# -gt 0 ]]; do
	unpack "$(readlink -f "$1")" "$(readlink -f "$2")" "$work/$#"
	shift 2
done
for source in "$module"/src/kmod/*.c; do
	name=$(basename "$source")
	if ! compgen -G "$work/*/$name.gcov" >/dev/null; then
		echo "  FAIL coverage kmod/$name: no counters"
		rc=1
		continue
	fi
	# "-" is no line, "#####" and "=====" are lines that were not run, a number is one that was.
	awk -F: '{ line = $0; gsub(/ /, "", $1); n = $2 + 0 } !n || $1 == "-" { next } { text[n] = line } $1 ~ /^[0-9]/ { run[n] = 1 }
		END { for (n in text) { all++; if (n in run) r++; else print "  | " text[n] }; print r + 0, all + 0 }' \
		"$work"/*/"$name.gcov" | sort -t : -k 2n >"$work/lines"
	read -r run all < <(grep -v '^  |' "$work/lines")
	percent=$((all ? run * 100 / all : 100))
	line="coverage kmod/$name: $run of $all lines, $percent %"
	if ((percent >= least)); then
		echo "$line"
	else
		echo "  FAIL $line, less than $least"
		grep '^  |' "$work/lines" | head -n 60
		rc=1
	fi
done
exit $rc
