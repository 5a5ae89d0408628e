#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# run.sh [PATCH...]: plant each fault in a copy of the tree, and see the test that it names go red.
#
# A patch begins with header lines: "Test: DIR/PROGRAM" (below tests/), and if needed "Variant: tsan" or "Where: vm" (the
# program runs over the module, in QEMU) or "Where: kunit" (Test is a suite of the module's own). Without arguments: the native ones, and with MUTANTS=all the others too. A
# mutant that stays green is a failure, and so is one that does not apply, build or boot.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 skipped=0

header()
{
	sed -n "s/^$2: //p" "$1" | head -n 1
}

# One copy that keeps its objects: only what a patch touches is built again.
fresh_tree()
{
	mkdir -p "$tmp/tree"
	(cd "$top" && git ls-files -z --cached --others --exclude-standard |
		tar -c --null -T - | tar -x -C "$tmp/tree")
	# What the tree has built is good there, too: make goes by the times, which are copied.
	cd "$top"
	find build/{,tsan/}{flags,obj,lib,tests} -maxdepth 0 >"$tmp/built" 2>/dev/null || true
	tar -c -T "$tmp/built" | tar -x -C "$tmp/tree"
}

run_native()
{
	local program=build/${2:+$2/}tests/$1 aslr=()

	make -s ${2:+VARIANT="$2"} "$program" >"$tmp/log" 2>&1 || return 99
	# ThreadSanitizer and a random layout don't go together on all kernels.
	[[ $2 != tsan ]] || aslr=(setarch -R)
	SHMIPC_PROVIDER=embedded timeout -k 5 120 "${aslr[@]}" "$program" >"$tmp/log" 2>&1
}

run_vm()
{
	local rc=0

	make -s "build/tests/$1" >"$tmp/log" 2>&1 || return 99
	tests/vm/module.sh bookworm . "$tmp/ko" >"$tmp/log" 2>&1 || return 99
	tests/vm/run.sh --flavour bookworm --ko "$tmp/ko/shmipc.ko" --add "build/tests/$1:/test" --timeout 240 \
		--log "$tmp/kernel.log" -- timeout 120 /test >"$tmp/log" 2>&1 || rc=$?
	[[ $rc != 4 ]] || return 99
	return "$rc"
}

run_kunit()
{
	local rc=0

	tests/vm/kunit.sh "$tmp/kunit" >"$tmp/log" 2>&1 || rc=$?
	[[ $rc != 4 ]] || return 99
	# Red is what the suite says, or what the kernel's log does; not just anything.
	grep -qE "^SUITE $1: [0-9]+ passed, [1-9]|^  FAIL ($1: |the VM: exit 3)" "$tmp/log"
	return $((! $?))
}

mutant()
{
	local patch=$1 name test variant where rc=0

	name=$(basename "$patch" .patch)
	test=$(header "$patch" Test) variant=$(header "$patch" Variant) where=$(header "$patch" Where)
	cd "$tmp/tree"
	if ! patch -s -p1 <"$patch" >"$tmp/log" 2>&1; then
		rc=98
	elif [[ $where == vm ]]; then
		run_vm "$test" || rc=$?
	elif [[ $where == kunit ]]; then
		run_kunit "$test" || rc=$?
	else
		run_native "$test" "$variant" || rc=$?
	fi
	[[ $rc == 98 ]] || patch -s -R -p1 <"$patch"
	case $rc in
	0) echo "  FAIL $name: $test stayed green" ;;
	98) echo "  FAIL $name: does not apply" ;;
	99) echo "  FAIL $name: does not build or boot"; tail -n 5 "$tmp/log" ;;
	*)
		echo "  pass $name: $test is red"
		passed=$((passed + 1))
		return
		;;
	esac
	failed=$((failed + 1))
}

# Many a mutant is red because something waits until its time is up: several at once, each in a tree
# of its own. Those that boot a VM go one after another beside them.
all_at_once()
{
	local patch part i=0 lane=4 lanes=()

	for patch in "$here"/*.patch; do
		if [[ -z $(header "$patch" Where) ]]; then
			i=$(((i + 1) % lane))
			echo "$patch" >>"$tmp/part$i"
		elif [[ ${MUTANTS:-native} == all ]]; then
			echo "$patch" >>"$tmp/partvm"
		fi
	done
	for part in "$tmp"/part*; do
		xargs "$0" <"$part" >"$part.out" 2>&1 &
		lanes+=("$!")
	done
	for part in "${lanes[@]}"; do
		wait "$part" || true
	done
	for part in "$tmp"/part*.out; do
		sed '$d' "$part"
		read -r passed failed skipped < <(awk -v p="$passed" -v f="$failed" -v s="$skipped" \
			'END { if (/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/) { p += $1; f += $3; s += $5 } else f++
			print p, f, s }' "$part")
	done
}

if [[ $# -eq 0 ]]; then
	all_at_once
else
	fresh_tree
	for patch; do
		mutant "$(readlink -f "$patch")"
	done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 && $passed -gt 0 ]]
