#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# demo.sh [demo|demo-handover]: that demo over the real module: the same script and programs, in a
# virtual machine with Debian 12's kernel. Afterwards what the module counted is printed, and the
# module is unloaded. Fails if a counter that must have moved is 0, something is left, or the kernel
# log is bad.
#
# demo.sh --guest DEMO is what runs inside.
set -euo pipefail

moved='segments_total doorbells_total syncs_total'
moved_handover='offers_total adoptions_total commits_total orphans_total'
counters=/sys/kernel/debug/shmipc/counters

die() {
	echo "$demo-vm: FAILED: $*" >&2
	exit 1
}

counter() { sed -n "s/^$1 //p" "$counters"; }

# Memory is freed after a grace period: some time is given for that.
nothing_left() {
	local left
	for _ in {1..100}; do
		left=$(awk '$1 ~ /(_live|^pages)$/ && $2 != 0' "$counters")
		[[ -n $left ]] || return 0
		sleep 0.1
	done
	die "left behind: $left"
}

guest() {
	local name value
	export SHMIPC_PROVIDER=kernel SHMIPC_DEMO_INPUT=/demo/input
	bash "/demo/tests/$demo.sh" || die "the demo"
	# A module that lost its live counters would have nothing left either.
	[[ -n $(counter pages) ]] || die "no counters in $counters"
	nothing_left
	echo "the module counted:"
	sed -n 's/_total / /p' "$counters" | awk '{ printf "  %-12s %s\n", $1, $2 }'
	[[ $demo == demo ]] || moved+=" $moved_handover"
	for name in $moved; do
		value=$(counter "$name")
		[[ ${value:-0} -gt 0 ]] || die "$name is ${value:-missing}"
	done
	rmmod shmipc || die "the module cannot be unloaded"
	[[ ! -e /dev/shmipc && ! -e $counters ]] || die "the module is not quite gone"
	echo "unloaded"
}

stage() {
	mkdir -p "$1"/{tests/vm,build/tools,build/examples}
	cp "tests/$demo.sh" "$1/tests/"
	cp tests/vm/demo.sh "$1/tests/vm/"
	cp "$build/tools/shmipc-cat" "$1/build/tools/"
	cp "$build"/examples/{greeter_server,greeter_client,hot_*} "$1/build/examples/"
	[[ $demo != demo ]] || tests/demo.sh --make-input "$1/input"
}

if [[ ${1-} == --guest ]]; then
	demo=$2
	guest
	exit
fi
demo=${1:-demo}
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
work=$build/vm/$demo
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$work"
tests/deps.sh build vm
${MAKE:-make} --no-print-directory all >"$work/make.log" 2>&1 ||
	{ tail -n 40 "$work/make.log" >&2; die "the build"; }
tests/vm/module.sh bookworm . "$work" >"$work/module.log" 2>&1 ||
	{ tail -n 40 "$work/module.log" >&2; die "the module's build"; }
stage "$tmp/demo"
echo "$demo-vm: Linux $(cat "$(tests/vm/kernel.sh bookworm)/release") in QEMU, all in software"
tests/vm/run.sh --flavour bookworm --ko "$work/shmipc.ko" --mem 2048 --timeout 400 \
	--log "$work/kernel.log" --add "$tmp/demo:/demo" --add "$(command -v bash):/usr/bin/bash" \
	-- env SHMIPC_DEMO_LEAST="${SHMIPC_DEMO_LEAST-}" SHMIPC_DEMO_EVENTS="${SHMIPC_DEMO_EVENTS-}" \
	bash /demo/tests/vm/demo.sh --guest "$demo" | tee "$tmp/out"
echo "$demo-vm: passed"
# The counts are the last line, as where there is no VM around them.
tr -d '\r' <"$tmp/out" | grep '^provider: ' || [[ $demo == demo ]]
