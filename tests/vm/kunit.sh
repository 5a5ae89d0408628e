#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# kunit.sh BUILDDIR: the module's KUnit suites on the debug kernel.
#
# Builds the module with its suites (CONFIG_SHMIPC_KUNIT_TEST), loads it in a VM, which runs them, and reads what
# KUnit wrote for each suite. Prints a line for each suite and, last, "kunit RELEASE: N passed, N failed, N skipped".
# A suite of kmod/tests that did not run, or ran fewer cases than it has, is a failure, and so is a bad kernel log.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

[[ $# -eq 1 ]] || vm_die 'usage: kunit.sh BUILDDIR'
src=$vm_dir/../..
mkdir -p "$1"
work=$(readlink -f "$1")/vm/kunit
passed=0 failed=0 skipped=0
mkdir -p "$work"

"$vm_dir/module.sh" debug "$src" "$work" CONFIG_SHMIPC_KUNIT_TEST=y GCOV_PROFILE=y >"$work/module.log" 2>&1 || {
	tail -n 40 "$work/module.log"
	vm_die "the module does not build with its suites ($work/module.log)"
}
rc=0
# shellcheck disable=SC2016 # expanded in the guest
"$vm_dir/run.sh" --flavour debug --ko "$work/shmipc.ko" --log "$work/kernel.log" --mem 2048 --timeout 900 \
	--append panic_on_warn=1 --add "$vm_dir/guest-coverage.sh:/coverage" -- \
	sh -c 'for s in /sys/kernel/debug/kunit/*; do echo "SUITE ${s##*/}"; cat $s/results; done
		rmmod shmipc && sh /coverage' \
	>"$work/out" 2>&1 || rc=$?
tr -d '\r' <"$work/out" >"$work/ktap"

lost()
{
	failed=$((failed + 1))
	echo "  FAIL $1"
}

# The cases' lines are the indented ones; the last of a suite sums them up.
count_suite()
{
	local name=$1 planned=$2 suite p f s

	suite=$(awk -v name="SUITE $name" '$0 == name { on = 1; next } /^SUITE / { on = 0 } on' "$work/ktap")
	s=$(grep -cE '^ +ok [0-9]+ .*# SKIP' <<<"$suite") || true
	p=$(($(grep -cE '^ +ok [0-9]+ ' <<<"$suite") - s)) || true
	f=$(grep -cE '^ +not ok [0-9]+ ' <<<"$suite") || true
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	echo "SUITE $name: $p passed, $f failed, $s skipped"
	((f == 0)) || grep -vE '^ +ok ' <<<"$suite" | sed 's/^/  | /'
	((p + f + s == planned)) && return
	lost "$name: $((p + f + s)) results of $planned planned"
	# KUnit keeps 512 bytes a case; a failure that is longer than that is in the kernel's log alone.
	grep -E -A 3 '(EXPECTATION|ASSERTION) FAILED' "$work/kernel.log" | head -n 40 | sed 's/^/  | /' || true
}

for file in "$src"/kmod/tests/*_test.c; do
	name=$(basename "$file" _test.c)
	count_suite "shmipc-$name" "$(grep -c 'KUNIT_CASE(' "$file")"
done
if [[ $rc != 0 ]]; then
	lost "the VM: exit $rc"
	tail -n 20 "$work/out"
fi
echo "kunit $(sed -n 's/.*Linux version \([^ ]*\).*/\1/p' "$work/kernel.log" | head -n 1):" \
	"$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
