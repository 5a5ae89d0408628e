#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# suite.sh FLAVOUR BUILDDIR: the integration tests over the kernel provider, in one VM with that kernel.
#
# Builds the module, boots, runs every executable of BUILDDIR/tests/integration and tests/kernel and every test_*.sh of
# the sources' folders of these names, with BUILDDIR's tools and examples (guest-suite.sh tells how), and prints a line for each and, last, "kernel RELEASE: N passed, N failed, N skipped". Loading and unloading the
# module count as one each. A program that the guest never reported is a failure, and so is a VM that failed.
# The kernel log stays in BUILDDIR/vm/FLAVOUR/kernel.log.
# SHMIPC_TEST_SCALE: how much the tests do (quick); SHMIPC_TEST_TIMEOUT: seconds a program (120);
# SHMIPC_VM_MEM: MiB (1024); SHMIPC_VM_SRC: another source tree.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

[[ $# -eq 2 ]] || vm_die 'usage: suite.sh FLAVOUR BUILDDIR'
flavour=$1 build=$(readlink -f "$2")
src=${SHMIPC_VM_SRC:-$vm_dir/../..}
work=$build/vm/${flavour//\//_}
limit=${SHMIPC_TEST_TIMEOUT:-120}
mem=${SHMIPC_VM_MEM:-1024} append='' guest_env=() make_args=()
# The debug kernel stops at its first warning. All takes many times as long there.
if [[ $flavour == debug ]]; then
	limit=$((limit * 5)) mem=$((mem * 2))
	append='panic_on_warn=1 page_owner=on'
	make_args=(GCOV_PROFILE=y)
	guest_env=(SHMIPC_TEST_SLOW=1 SHMIPC_GUEST_LEAKS=1)
fi
# The newest kernel's CPUs run in turn (run.sh), so that two requests meet only where one is preempted.
if [[ $flavour == newest ]]; then
	rounds=50
	[[ ${SHMIPC_TEST_SCALE-} != long ]] || rounds=200
	guest_env=("SHMIPC_RACE_ROUNDS=$rounds")
fi
passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# stage: lay out /t of the guest; prints the programs' names.
stage()
{
	local file

	mkdir -p "$tmp/t/tests" "$tmp/t/lib" "$work"
	cp "$vm_dir/guest-suite.sh" "$vm_dir/guest-coverage.sh" "$vm_dir/gate.patterns" "$vm_dir/../skips.allowed" "$tmp/t/"
	for file in "$build"/lib/libshmipc.so*; do
		[[ ! -e $file ]] || cp -a "$file" "$tmp/t/lib/"
	done
	for file in "$build"/tests/integration/* "$build"/tests/kernel/*; do
		[[ -f $file && -x $file ]] || continue
		cp "$file" "$tmp/t/tests/"
		basename "$file"
	done
	stage_scripts
}

# A tree as the scripts expect it, and what they need that busybox has not, or not with these options.
stage_scripts()
{
	local file dir tree=$tmp/t/tree

	mkdir -p "$tree/tests" "$tree/build" "$tmp/t/bin"
	for file in "$src"/tests/{integration,kernel}/test_*.sh; do
		[[ -f $file ]] || continue
		dir=$(basename "$(dirname "$file")")
		mkdir -p "$tree/tests/$dir"
		cp "$file" "$tree/tests/$dir/"
		basename "$file"
	done
	cp "$vm_dir/../tap.sh" "$tree/tests/"
	cp -R "$vm_dir/../../docs" "$tree/"
	for dir in tools examples; do
		[[ ! -d $build/$dir ]] || cp -R "$build/$dir" "$tree/build/"
	done
	for file in bash dd kmod tail timeout; do
		cp "$(command -v "$file")" "$tmp/t/bin/"
	done
}

lost()
{
	failed=$((failed + 1))
	echo "  FAIL $1"
}

# Sum what the guest printed; what it owes and did not print is a failure each.
tally()
{
	local name re='^PROGRAM ([^ ]+): ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped, [0-9]+ s$'
	local -A reported=()

	while IFS= read -r line; do
		[[ ${line%$'\r'} =~ $re ]] || continue
		reported[${BASH_REMATCH[1]}]=1
		passed=$((passed + BASH_REMATCH[2]))
		failed=$((failed + BASH_REMATCH[3]))
		skipped=$((skipped + BASH_REMATCH[4]))
	done <"$tmp/out"
	for name in load "${programs[@]}" unload "${after[@]}"; do
		[[ -n ${reported[$name]-} ]] || lost "$name: no result from the VM"
	done
}

# A source whose lines were run is a test that passed. What the KUnit suites ran counts, where they did.
tally_coverage()
{
	local kunit=$build/vm/kunit runs=("$tmp/out" "$work")

	[[ ! -e $kunit/out ]] || runs+=("$kunit/out" "$kunit")
	"$vm_dir/coverage.sh" "${runs[@]}" >"$tmp/coverage" || true
	cat "$tmp/coverage"
	passed=$((passed + $(grep -c '^coverage ' "$tmp/coverage" || true)))
	failed=$((failed + $(grep -c '^  FAIL ' "$tmp/coverage" || true)))
}

mapfile -t programs < <(stage)
"$vm_dir/module.sh" "$flavour" "$src" "$work" "${make_args[@]}" >"$work/module.log" 2>&1 || {
	tail -n 40 "$work/module.log"
	vm_die "the module does not build for $flavour ($work/module.log)"
}
after=()
if [[ $flavour == debug ]]; then
	after=(leaks)
	"$vm_dir/module.sh" debug "$vm_dir/selftest" "$work/standin" >"$work/standin.log" 2>&1 ||
		vm_die "the stand-in module does not build ($work/standin.log)"
	cp "$work/standin/shmipc.ko" "$tmp/t/standin.ko"
fi
rc=0
"$vm_dir/run.sh" --flavour "$flavour" --ko "$work/shmipc.ko" --add "$tmp/t:/t" --log "$work/kernel.log" \
	--mem "$mem" --append "$append" --timeout $((120 + ${#programs[@]} * (limit + 15))) \
	-- env CI="${CI-}" SHMIPC_TEST_SCALE="${SHMIPC_TEST_SCALE:-quick}" \
	SHMIPC_TEST_TIMEOUT="$limit" "${guest_env[@]}" sh /t/guest-suite.sh 2>&1 |
	tee "$tmp/out" | grep --line-buffered -v '^GCDA ' || rc=$?
tally
[[ ${#programs[@]} -gt 0 ]] || lost "no test programs in $build/tests/integration"
if [[ $rc != 0 && $failed == 0 ]]; then
	lost "the VM: exit $rc"
fi
[[ $flavour != debug ]] || tally_coverage
echo "kernel $(sed -n 's/.*Linux version \([^ ]*\).*/\1/p' "$work/kernel.log" | head -n 1):" \
	"$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
