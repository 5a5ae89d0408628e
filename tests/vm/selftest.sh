#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# selftest.sh [FLAVOUR]: what the rig must catch is provoked, and must be caught. Prints TAP. About two minutes.
# A module of its own (selftest/) stands in for the real one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=../tap.sh
. "$vm_dir/../tap.sh"

flavour=${1:-bookworm}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
param=/sys/module/shmipc/parameters
ko=$tmp/ko/shmipc.ko
"$vm_dir/module.sh" "$flavour" "$vm_dir/selftest" "$tmp/ko" >"$tmp/ko.log" 2>&1 || {
	sed 's/^/# /' "$tmp/ko.log"
	vm_die 'the stand-in module does not build'
}

# vm WANTED OUTPUT CMD: run CMD in a VM; its exit status and all of its output must be these.
vm()
{
	local rc=0

	"$vm_dir/run.sh" --flavour "$flavour" --ko "$ko" --timeout "${vm_timeout:-60}" \
		-- sh -c "$3" >"$tmp/vm.out" 2>"$tmp/vm.err" || rc=$?
	echo "exit $rc"
	cat "$tmp/vm.out" "$tmp/vm.err"
	[[ $rc == "$1" && $(<"$tmp/vm.out") == "$2" ]]
}

vm_says()
{
	local text=$1

	shift
	vm "$@"
	grep -q "$text" "$tmp/vm.err"
}

# Each line alone must fail a log that else passes, and each pattern must be needed by one of them.
gate_lines()
{
	local line pattern bad=0

	echo 'shmipc-vm: end of run' >"$tmp/good"
	echo '[    0.1] rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.' >>"$tmp/good"
	echo '[    0.1] kfence: initialized - using 2097152 bytes for 255 objects' >>"$tmp/good"
	"$vm_dir/gate.sh" "$tmp/good"
	while IFS= read -r line; do
		{ cat "$tmp/good"; echo "[   12.3] $line"; } >"$tmp/log"
		rc=0
		"$vm_dir/gate.sh" "$tmp/log" 2>/dev/null || rc=$?
		[[ $rc == 3 ]] || { echo "passed with $rc: $line"; bad=1; }
	done < <(grep -v '^#' "$vm_dir/selftest/bad-lines")
	while IFS= read -r pattern; do
		grep -v '^#' "$vm_dir/selftest/bad-lines" | grep -qE "$pattern" ||
			{ echo "no sample for: $pattern"; bad=1; }
	done < <(grep -v '^#' "$vm_dir/gate.patterns")
	return $bad
}

gate_cut_log()
{
	echo '[    0.1] Linux version' >"$tmp/log"
	! "$vm_dir/gate.sh" "$tmp/log"
}

wrong_module()
{
	local rc=0

	echo 'no module' >"$tmp/bad.ko"
	"$vm_dir/run.sh" --flavour "$flavour" --ko "$tmp/bad.ko" -- echo reached >"$tmp/vm.out" 2>&1 || rc=$?
	cat "$tmp/vm.out"
	[[ $rc == 4 ]] && ! grep -q reached "$tmp/vm.out"
}

boot_hangs()
{
	SHMIPC_VM_BOOT_LIMIT=1 vm_says 'hung in its boot, twice' 4 '' 'echo reached' && grep -q 'once more' "$tmp/vm.err"
}

# program NAME BODY: a test program for the suite, of the shell.
program()
{
	mkdir -p "$tmp/build/tests/integration"
	printf '#!/bin/sh\n%s\n' "$2" >"$tmp/build/tests/integration/test_$1"
	chmod +x "$tmp/build/tests/integration/test_$1"
}

# suite WANTED LAST: exit status and last line, without the kernel's name.
suite()
{
	local rc=0

	SHMIPC_VM_SRC=$vm_dir/selftest SHMIPC_TEST_TIMEOUT=8 CI='' \
		"$vm_dir/suite.sh" "$flavour" "$tmp/build" >"$tmp/suite.out" 2>&1 || rc=$?
	rm -rf "$tmp/build/tests"
	cat "$tmp/suite.out"
	[[ $rc == "$1" && $(tail -n 1 "$tmp/suite.out") == kernel\ *": $2" ]]
}

suite_good()
{
	program a 'echo 1..2; echo ok 1 - x; echo ok 2 - y; sleep 100 &'
	program b 'echo "skip: not here"; exit 77'
	suite 0 '4 passed, 0 failed, 1 skipped'
}

suite_bad()
{
	program crash 'echo 1..2; echo ok 1 - x; kill -SEGV $$'
	program failed 'echo 1..1; echo not ok 1 - x; exit 1'
	program hang 'sleep 100'
	program leak "echo 1..1; echo ok 1 - x; echo 3 >$param/live"
	program lost 'echo 1..2; echo ok 1 - x'
	program none 'exit 0'
	program quiet 'exit 77'
	program warn "echo 1..1; echo ok 1 - x; echo warn >$param/fault"
	suite 1 '6 passed, 8 failed, 0 skipped'
	for name in crash failed hang leak lost none quiet warn; do
		grep -q "FAIL test_$name: " "$tmp/suite.out" || { echo "not caught: $name"; return 1; }
	done
}

suite_panic()
{
	program a 'echo 1..1; echo ok 1 - x'
	program b "echo panic >$param/fault"
	program c 'echo 1..1; echo ok 1 - x'
	suite 1 '2 passed, 3 failed, 0 skipped'
}

suite_no_unload()
{
	program a "echo 1..1; echo ok 1 - x; echo refuse-unload >$param/fault"
	suite 1 '2 passed, 1 failed, 0 skipped'
}

# Patches kernel code under load, which an unfit emulator does not survive.
# shellcheck disable=SC2016 # expanded in the guest
patching='
for cpu in 1 2; do
	(while :; do cat /proc/self/stat >/dev/null; done) &
done
for i in 1 2 3 4 5 6; do
	for on in 1 0; do
		for events in sched timer irq; do
			echo $on >/sys/kernel/tracing/events/$events/enable
		done
	done
done
echo done'

t gate-lines gate_lines
t gate-cut-log gate_cut_log
t exit-0 vm 0 'hello' 'echo hello; test -c /dev/kmsg; echo noise >/dev/kmsg'
t code-patching vm 0 'done' "$patching"
t exit-7 vm 7 "it's" "echo \"it's\" >&2; exit 7"
vm_timeout=15 t hang vm 124 'before' 'echo before; sleep 1000'
t warn vm_says 'WARNING:' 3 'after' "echo warn >$param/fault; echo after"
t oops vm_says 'NULL pointer' 3 '' "echo oops >$param/fault; sleep 1000"
t early-reboot vm_says 'no end of run' 3 '' 'reboot -f'
t boot-hangs boot_hangs
t wrong-module wrong_module
t suite-good suite_good
t suite-bad suite_bad
t suite-panic suite_panic
t suite-no-unload suite_no_unload
t suite-empty suite 1 '2 passed, 1 failed, 0 skipped'
tap_end
