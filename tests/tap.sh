# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash
# tap.sh: results of shell tests as TAP. Sourced; the sourcing script calls tap_end last.

tap_n=0
tap_bad=0
tap_log=$(mktemp)

# t NAME COMMAND...: one result; the command's output goes into the log as TAP comments. A command
# that returns 77 is skipped; it has printed why as "skip: REASON".
t() {
	local name=$1 rc=0
	shift
	tap_n=$((tap_n + 1))
	# A process of its own where set -e holds, which it does not in a condition.
	set +e
	(set -e; "$@") >"$tap_log" 2>&1
	rc=$?
	set -e
	if ((rc == 77)); then
		cat "$tap_log"
		echo "ok $tap_n # SKIP $name"
		return
	fi
	sed 's/^/# /' "$tap_log"
	if ((rc == 0)); then
		echo "ok $tap_n - $name"
	else
		echo "not ok $tap_n - $name"
		tap_bad=1
	fi
}

skip() {
	echo "skip: $1"
	exit 77
}

tap_end() {
	rm -f "$tap_log"
	echo "1..$tap_n"
	return $tap_bad
}
