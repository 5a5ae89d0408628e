#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What docs/upgrade.md says about a module in use: rmmod is refused, by either rmmod and in these
# words, as long as somebody has the device open, and the module serves on. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
cat=$(realpath "${BUILD:-build}")/tools/shmipc-cat
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
doc=docs/upgrade.md

# users WANTED: what the kernel counts, once the last one's end is through.
users() {
	local n
	for _ in {1..100}; do
		n=$(</sys/module/shmipc/refcnt)
		[[ $n != "$1" ]] || return 0
		sleep 0.1
	done
	echo "$n users, not $1"
	return 1
}

# refused SENTENCE COMMAND...
refused() {
	local sentence=$1 rc=0
	shift
	users 0
	exec 3<>/dev/shmipc
	"$@" 2>"$tmp/err" || rc=$?
	cat "$tmp/err"
	[[ $rc == 1 && $(<"$tmp/err") == "$sentence" ]]
	grep -qF "$sentence" "$doc"
	# Still whole: somebody else can come and go.
	"$cat" -l in-use <<<hello >"$tmp/l" &
	"$cat" -w 20 in-use <<<you >"$tmp/c"
	wait $!
	[[ $(<"$tmp/c") == hello && $(<"$tmp/l") == you ]]
	exec 3>&-
	users 0
}

kmod_rmmod() { (exec -a rmmod kmod "$@"); }

t kmod refused 'rmmod: ERROR: Module shmipc is in use' kmod_rmmod shmipc
t busybox refused "rmmod: can't unload module 'shmipc': Resource temporarily unavailable" \
	busybox rmmod shmipc
tap_end
