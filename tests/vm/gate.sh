#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# gate.sh LOG: fail with 3, and print the lines, if a kernel log holds what a sound kernel never says.
# A log without the mark that the guest writes last is cut short, which fails too: it may have lost such a line.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

log=${1:?usage: gate.sh LOG}
[[ -r $log ]] || vm_die "no kernel log $log"
patterns=$(grep -v '^#' "$vm_dir/gate.patterns")
if hits=$(grep -aE "$patterns" "$log"); then
	echo "kernel log: $(wc -l <<<"$hits") bad lines ($log)" >&2
	head -n 40 <<<"$hits" >&2
	exit 3
fi
if ! grep -aq 'shmipc-vm: end of run' "$log"; then
	echo "kernel log: no end of run ($log); its last lines:" >&2
	tail -n 5 "$log" >&2
	exit 3
fi
