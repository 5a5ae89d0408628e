#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# kunit-tree.sh BUILDDIR: the module's KUnit suites as people run them who work in a kernel tree.
#
# Puts the project into the sources of the debug kernel, at drivers/misc/shmipc as docs/testing.md tells, and lets
# the tree's own kunit.py configure, build, boot and read it. The suites are built in here, not a module. Prints a
# line for each suite and, last, "kunit.py RELEASE: N passed, N failed, N skipped". A case of kmod/tests that did not
# run is a failure. Builds a kernel: 8 minutes of processor time, fewer the next time.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

[[ $# -eq 1 ]] || vm_die 'usage: kunit-tree.sh BUILDDIR'
src=$(readlink -f "$vm_dir/../..")
mkdir -p "$1"
work=$(readlink -f "$1")/vm/kunit-tree
source=$("$vm_dir/debug-kernel.sh" --source)
tree=$work/linux
failed=0
vm_need python3 make flex bison bc
mkdir -p "$work"

# add_line FILE BEFORE LINE: the file is a link to the cache's, which stays as it is. No BEFORE: at the end.
add_line()
{
	awk -v before="$2" -v line="$3" 'before != "" && $0 == before { print line } { print }
		END { if (before == "") print line }' "$1" >"$1.new"
	mv "$1.new" "$1"
	grep -qxF "$3" "$1"
}

# Links cost no room and no time. What was built last time is elsewhere, and stays.
rm -rf "$tree"
cp -al "$source" "$tree"
mkdir "$tree/drivers/misc/shmipc"
cp -R "$src"/{Kbuild,VERSION,kmod,uapi} "$tree/drivers/misc/shmipc/"
# shellcheck disable=SC2016 # make's
add_line "$tree/drivers/misc/Makefile" '' 'obj-$(CONFIG_SHMIPC) += shmipc/'
add_line "$tree/drivers/misc/Kconfig" endmenu 'source "drivers/misc/shmipc/kmod/Kconfig"'

# It starts qemu-system-x86_64 by that name.
mapfile -t qemu < <("$vm_dir/qemu.sh")
mkdir -p "$work/bin"
printf '#!/bin/sh\nexec %s "$@"\n' "${qemu[*]}" >"$work/bin/qemu-system-x86_64"
chmod +x "$work/bin/qemu-system-x86_64"

rc=0
(cd "$tree" && PATH=$work/bin:$PATH python3 tools/testing/kunit/kunit.py run --arch x86_64 --jobs "$(nproc)" \
	--build_dir "$work/build" --kunitconfig drivers/misc/shmipc/kmod --timeout 1200 --json="$work/results.json") \
	>"$work/log" 2>&1 || rc=$?
[[ -s $work/results.json ]] || { tail -n 40 "$work/log"; vm_die "kunit.py: exit $rc, and no results"; }
if [[ $rc != 0 ]]; then
	failed=1
	echo "  FAIL kunit.py: exit $rc"
	grep -vE 'PASSED' "$work/log" | tail -n 40 | sed 's/^/  | /'
fi
python3 - "$work/results.json" "$src"/kmod/tests/*_test.c >"$work/counts" <<'PY'
import json, os, re, sys

def suites(group):
    for sub in group.get("sub_groups", []):
        yield sub["name"], [case["status"] for case in sub["test_cases"]]
        yield from suites(sub)

ran = dict(suites(json.load(open(sys.argv[1]))))
total = {"PASS": 0, "FAIL": 0, "SKIP": 0}
for path in sys.argv[2:]:
    name = "shmipc-" + os.path.basename(path)[:-len("_test.c")]
    planned = len(re.findall(r"KUNIT_CASE\(", open(path).read()))
    cases = ran.get(name, [])
    for status in cases:
        total[status if status in total else "FAIL"] += 1
    print(f"SUITE {name}: {cases.count('PASS')} of {planned} passed")
    if len(cases) != planned:
        total["FAIL"] += 1
        print(f"  FAIL {name}: {len(cases)} results of {planned} planned")
print(total["PASS"], total["FAIL"], total["SKIP"])
PY
sed '$d' "$work/counts"
read -r p f s < <(tail -n 1 "$work/counts")
echo "kunit.py $(cat "$work/build/include/config/kernel.release"): $p passed, $((f + failed)) failed, $s skipped"
[[ $((f + failed)) == 0 ]]
