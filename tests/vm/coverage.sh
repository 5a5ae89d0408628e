#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# coverage.sh OUTPUT MODULEDIR: how much of each of the module's sources a VM ran.
#
# OUTPUT is what guest-suite.sh printed, with the kernel's counters in its lines "GCDA NAME BASE64"; MODULEDIR is where
# module.sh built with GCOV_PROFILE=y. Prints "coverage FILE: N of N lines, N %" for each; less than 85 % is a "FAIL",
# with the lines that were not run, and so is a source without counters.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

least=85
[[ $# -eq 2 ]] || vm_die 'usage: coverage.sh OUTPUT MODULEDIR'
output=$(readlink -f "$1") module=$(readlink -f "$2")
vm_need gcov gzip base64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0

cd "$work"
for source in "$module"/src/kmod/*.c; do
	name=$(basename "$source" .c)
	awk -v name="$name.gcda" '$1 == "GCDA" && $2 == name { print $3 }' "$output" | tr -d '\r' |
		base64 -d | gzip -dc >"$name.gcda" 2>/dev/null || true
	cp "${source%.c}.gcno" .
	gcov -r -s "$module/src" "$name.gcda" >/dev/null 2>&1 || true
	if ! [[ -s $name.gcda && -e $name.c.gcov ]]; then
		echo "  FAIL coverage kmod/$name.c: no counters"
		rc=1
		continue
	fi
	# "#####" and "=====" are lines that were not run, a number or a number with "*" one that was, "-" none.
	read -r run all < <(awk -F: '{ gsub(/ /, "", $1) } $1 ~ /^[0-9]/ { r++ } $1 != "-" { n++ }
		END { print r + 0, n + 0 }' "$name.c.gcov")
	percent=$((all ? run * 100 / all : 100))
	line="coverage kmod/$name.c: $run of $all lines, $percent %"
	if ((percent >= least)); then
		echo "$line"
	else
		echo "  FAIL $line, less than $least"
		grep -E '^ *(#####|=====)' "$name.c.gcov" | head -n 60 | sed 's/^/  | /'
		rc=1
	fi
done
exit $rc
