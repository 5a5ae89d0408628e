#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# guest-suite.sh: in the guest, run each program of /t/tests, and each script of /t/tree/tests, alone and look at what it
# left behind. Started by suite.sh, which sums the lines "PROGRAM NAME: N passed, N failed, N skipped, N s". What fails a program, apart from its
# tests: a crash, no end, no or lost results, a bad line in the kernel log, a live object or page still counted.

counters=/sys/kernel/debug/shmipc/counters
kmemleak=/sys/kernel/debug/kmemleak
limit=${SHMIPC_TEST_TIMEOUT:-120}
patterns=$(grep -v '^#' /t/gate.patterns)
leaked=

# One failure line; the program's summary counts them.
fail()
{
	failed=$((failed + 1))
	echo "  FAIL $name: $1"
}

# "name value" of whatever is alive, in one line. Silence is trusted only of a file that has such counters at all.
live()
{
	awk '$1 ~ /(_live|pages)$/ { n++; if ($2 != 0) printf "%s %s ", $1, $2 }
		END { if (!n) print "no live counters" }' $counters 2>&1
}

# Memory is freed after a grace period or by queued work: give that 10 s, without waiting when all is well.
settle()
{
	tries=0
	while left=$(live); [ -n "$left" ] && [ "$left" != "$leaked" ] && [ $tries -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
}

# A leak is its maker's failure, not that of every program after it.
check_counters()
{
	settle
	if [ -n "$left" ] && [ "$left" != "$leaked" ]; then
		fail "left behind: $left"
	fi
	leaked=$left
}

check_log()
{
	dmesg -c >/tmp/dmesg
	if grep -E "$patterns" /tmp/dmesg >/tmp/bad; then
		fail "bad lines in the kernel log"
		head -n 20 /tmp/bad | sed 's/^/  | /'
	fi
}

# Prints what each test that is no pass was, and as its last line: planned seen passed failed skipped.
read_tap()
{
	awk -v ci="$CI" -v name="$name" '
		FILENAME ~ /skips.allowed$/ { allowed[$0] = 1; next }
		/^1\.\.[0-9]+$/ { planned += substr($0, 4) }
		/^skip: / { reason = substr($0, 7); next }
		!/^(not )?ok [0-9]/ { next }
		{ seen++ }
		/# SKIP/ {
			sub(/.*# SKIP */, "")
			if (reason != "" && (ci != "true" || reason in allowed)) {
				skipped++
				print "  skip " name ":" $0 ": " reason
			} else {
				failed++
				print "  FAIL " name ":" $0 ": a skip without an allowed reason: " reason
			}
			reason = ""
			next
		}
		{ reason = "" }
		/^ok / { passed++; next }
		{ failed++; print "  FAIL " name ": " $0 }
		END { print planned + 0, seen + 0, passed + 0, failed + 0, skipped + 0 }' \
		/t/skips.allowed /tmp/log >/tmp/tap
	sed '$d' /tmp/tap
	# shellcheck disable=SC2046 # five numbers
	set -- $(tail -n 1 /tmp/tap)
	planned=$1 seen=$2 passed=$3 failed=$4 skipped=$5
}

# In a session of its own: whatever it forked ends with it, before anything is counted.
execute()
{
	rm -f /tmp/pgid
	setsid sh -c 'echo $$ >/tmp/pgid; exec timeout -s KILL "$@"' run "$limit" "$1" \
		</dev/null >/tmp/log 2>&1
	rc=$?
	kill -KILL "-$(cat /tmp/pgid)" 2>/dev/null
}

check_exit()
{
	if [ $rc -eq 77 ] && [ "$seen" -eq 0 ]; then
		reason=$(tail -n 1 /tmp/log | sed 's/^skip: //')
		if [ -n "$reason" ] && { [ "$CI" != true ] || grep -qxF -- "$reason" /t/skips.allowed; }; then
			skipped=1
			echo "  skip $name: $reason"
		else
			fail "a skip without an allowed reason: $reason"
		fi
	elif [ $rc -ge 128 ]; then
		fail "killed by signal $((rc - 128)) after $seen of $planned tests (limit $limit s)"
	elif [ $rc -ne 0 ] && [ "$failed" -eq 0 ]; then
		fail "exit $rc after $seen of $planned tests"
	elif [ "$seen" -eq 0 ] || [ "$seen" -ne "$planned" ]; then
		fail "$seen results of $planned planned"
	fi
}

run_program()
{
	name=$(basename "$1")
	start=$(cut -d . -f 1 /proc/uptime)
	echo "shmipc-vm: start $name" >/dev/kmsg
	execute "$1"
	read_tap
	check_exit
	check_counters
	check_log
	[ "$failed" -eq 0 ] || tail -n 60 /tmp/log | sed 's/^/  | /'
	end=$(cut -d . -f 1 /proc/uptime)
	summary $((end - start))
}

summary()
{
	echo "PROGRAM $name: $passed passed, $failed failed, $skipped skipped, $1 s"
}

# The module must go, come back and go again: what it forgot to unregister shows at the second load.
unload()
{
	name=unload passed=0 failed=0 skipped=0
	if rmmod shmipc && insmod /shmipc.ko && rmmod shmipc; then
		passed=1
	else
		fail "rmmod or insmod"
		lsmod
	fi
	check_log
	summary 0
}

# What kmemleak reports in two scans: it leaves alone what is younger than five seconds.
leak_scan()
{
	echo scan >$kmemleak
	sleep 6
	echo scan >$kmemleak
	cat $kmemleak >/tmp/leaks
}

# Leaks are planted, where no console shows it: a scan that finds none has proved nothing. Eight, since a stale pointer
# in some stack can hide one.
planted_scan()
{
	dmesg -n 1
	echo N >/sys/module/printk/parameters/ignore_loglevel
	insmod /t/standin.ko
	for _ in 1 2 3 4 5 6 7 8; do
		echo leak >/sys/module/shmipc/parameters/fault
	done
	leak_scan
	rmmod shmipc
	dmesg -c >/dev/null
	echo Y >/sys/module/printk/parameters/ignore_loglevel
}

# Objects in the scan with (1) or without (0) the planted one's maker in their stack.
leaked_objects()
{
	awk -v planted="$1" '
		function flush() { if (block != "" && (block ~ /fault_set/) == planted) printf "%s", block }
		/^unreferenced object/ { flush(); block = "" }
		{ block = block $0 "\n" }
		END { flush() }' /tmp/leaks
}

# Once the module is gone: pages that it allocated, and memory that nobody refers to any more.
leaks()
{
	name=leaks passed=0 failed=0 skipped=0
	start=$(cut -d . -f 1 /proc/uptime)
	if grep -F '[shmipc]' /sys/kernel/debug/page_owner >/tmp/pages; then
		fail "pages are left: $(wc -l </tmp/pages)"
	else
		passed=$((passed + 1))
	fi
	planted_scan
	if [ -n "$(leaked_objects 0)" ]; then
		fail "unreferenced memory"
		leaked_objects 0 | head -n 60 | sed 's/^/  | /'
	else
		passed=$((passed + 1))
	fi
	if [ -n "$(leaked_objects 1)" ]; then
		passed=$((passed + 1))
	else
		fail "no planted leak was found"
	fi
	end=$(cut -d . -f 1 /proc/uptime)
	summary $((end - start))
}

# What the module said and counted while it was loaded.
load()
{
	name=load passed=0 failed=0 skipped=0
	left=$(live)
	[ -z "$left" ] || fail "counted before any use: $left"
	leaked=$left
	check_log
	[ $failed -ne 0 ] || passed=1
	summary 0
}

export SHMIPC_PROVIDER=kernel CMOCKA_MESSAGE_OUTPUT=TAP LD_LIBRARY_PATH=/t/lib PATH="/t/bin:$PATH"
if [ -n "${SHMIPC_GUEST_LEAKS-}" ]; then
	# What the kernel itself had by then is not ours.
	leak_scan
	echo clear >$kmemleak
fi
load
for program in /t/tests/* /t/tree/tests/*/test_*.sh; do
	[ -f "$program" ] && [ -x "$program" ] && run_program "$program"
done
unload
if [ -n "${SHMIPC_GUEST_LEAKS-}" ]; then
	leaks
	sh /t/guest-coverage.sh
fi
