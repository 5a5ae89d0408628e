#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What can be checked without running the library. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
BUILD=${BUILD:-build}
version=$(cat VERSION)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# compile HEADER OPTION...: twice included, as the only header of its program.
compile() {
	local header=$1
	shift
	printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' \
		"$header" "$header" >"$tmp/h.c"
	gcc -Wall -Wextra -Werror -I. -Ilib/include "$@" -c -o "$tmp/h.o" "$tmp/h.c"
}

# The kernel's own headers lie in the multiarch folder, where -m32 does not look.
m32=(-m32 -idirafter /usr/include/x86_64-linux-gnu)

symbols() { nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }'; }

exports_prefixed() {
	local other
	[[ -n $(symbols "$BUILD/lib/libshmipc.so") ]] || { echo "nothing is exported"; return 1; }
	other=$(symbols "$BUILD/lib/libshmipc.so" | grep -v '^shmipc_') || return 0
	echo "exported: $other"
	return 1
}

exports_declared() {
	local s bad=0
	for s in $(symbols "$BUILD/lib/libshmipc.so"); do
		grep -qwF -- "$s" lib/include/shmipc/*.h || { echo "not in a header: $s"; bad=1; }
	done
	return $bad
}

# Whatever is exported has a page with its prototype, and troff finds nothing wrong with any page.
man_pages() {
	local page s bad=0 said
	for s in $(symbols "$BUILD/lib/libshmipc.so"); do
		grep -qE "^[a-z].*[ *]$s\(.*[;,]$" "$BUILD/man/$s.3" || { echo "no page: $s"; bad=1; }
		grep -qxF ".BR $s (3)" "$BUILD/man/shmipc.7" || { echo "not in shmipc(7): $s"; bad=1; }
	done
	while read -r s; do
		grep -qxF ".B ${s%,}" "$BUILD/man/shmipc.7" || { echo "not explained in shmipc(7): $s"; bad=1; }
	done < <(awk '/^(#define |\t)SHMIPC_[A-Z_]+.*[^H]$/ { print $1 == "#define" ? $2 : $1 }' \
		lib/include/shmipc/shmipc.h)
	for s in "$BUILD"/tools/*; do
		[[ ! -x $s || -e docs/man/$(basename "$s").1 ]] || { echo "no page: $s"; bad=1; }
	done
	for page in docs/man/* "$BUILD"/man/*.[37]; do
		said=$(groff -man -Tutf8 -ww -z "$page" 2>&1)
		[[ -z $said ]] || { echo "$page: $said"; bad=1; }
	done
	return $bad
}

version_everywhere() {
	local so bad=0 v tool
	so=$(objdump -p "$BUILD/lib/libshmipc.so" | awk '/SONAME/ { print $2 }')
	[[ $so == "libshmipc.so.${version%%.*}" ]] || { echo "soname $so"; bad=1; }
	v=$(sed -n 's/^Version: //p' "$BUILD/lib/libshmipc.pc")
	[[ $v == "$version" ]] || { echo "libshmipc.pc: $v"; bad=1; }
	# From another folder, as dkms does; it sets the variables that are empty here.
	# shellcheck disable=SC2016
	v=$(cd / && bash -c '. "$1"; echo "$PACKAGE_VERSION"' - "$OLDPWD/dkms.conf")
	[[ $v == "$version" ]] || { echo "dkms.conf: $v"; bad=1; }
	v=$(sed -n 's/^## \([0-9][0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)
	[[ $v == "$version" ]] || { echo "CHANGELOG.md: newest entry is $v"; bad=1; }
	for v in docs/man/* "$BUILD"/man/*.[37]; do
		grep -q "^\.TH [A-Z_-]* [1-8] \"[^\"]*\" \"shmipc $version\"" "$v" || { echo "$v: another version"; bad=1; }
	done
	for tool in "$BUILD"/tools/*; do
		[[ -x $tool ]] || continue
		v=$("$tool" --version 2>&1 | head -n 1) || true
		[[ " $v " == *" $version "* ]] || { echo "$tool --version: $v"; bad=1; }
	done
	return $bad
}

tracked() { git ls-files 2>/dev/null || find . -path "./$BUILD" -prune -o -type f -printf '%P\n'; }

licence_of() {
	case $1 in
	kmod/* | Kbuild) echo 'GPL-2.0-only' ;;
	uapi/*) echo '((GPL-2.0-only WITH Linux-syscall-note) OR MIT)' ;;
	examples/*) echo 'MIT' ;;
	lib/* | tools/* | tests/* | Makefile | dkms.conf) echo 'LGPL-2.1-or-later OR MIT' ;;
	esac
}

spdx() {
	local f got want bad=0
	while IFS= read -r f; do
		case $f in LICENSES/* | VERSION) continue ;; esac
		[[ -f $f ]] || continue
		got=$(head -n 3 "$f" | sed -n 's/.*SPDX-License-Identifier: //p' |
			sed -e 's| *\*/$||' -e 's| *-->$||' | head -n 1)
		want=$(licence_of "$f")
		if [[ -z $got || -n $want && $got != "$want" ]]; then
			echo "$f: '$got', wanted '${want:-some licence}'"
			bad=1
		fi
	done < <(tracked)
	return $bad
}

shell_clean() {
	command -v shellcheck >/dev/null || skip "no shellcheck"
	local files
	mapfile -t files < <(tracked | grep -E '\.sh$|^\.ci/run$' | while IFS= read -r f; do
		[[ ! -f $f ]] || echo "$f"; done)
	shellcheck -x "${files[@]}"
}

# totals WANTED PART LABEL PASSED: what a check of one suite makes of a list of floors.
totals() {
	echo "$3|$4|0|0" >"$tmp/results"
	if "$tmp/total.sh" "$2" "$tmp/results"; then
		[[ $1 == good ]]
	else
		[[ $1 == bad ]]
	fi
}

floors() {
	cp tests/total.sh "$tmp/"
	printf '%s\n' '# a list' 'check|a suite|5' 'check|other|3' 'long|a suite|7' >"$tmp/counts.list"
	totals good quick 'a suite' 5
	totals bad quick 'a suite' 4
	totals good long 'a suite' 7
	totals bad long 'a suite' 6
	totals bad check 'a suite' 5 # the other one was not run
	totals good quick unlisted 1
}

for std in gnu99 c99 c11; do
	t "uapi-$std" compile uapi/shmipc.h -std=$std -pedantic -x c
	t "uapi-m32-$std" compile uapi/shmipc.h "${m32[@]}" -std=$std -pedantic -x c
done
t uapi-c++17 compile uapi/shmipc.h -std=c++17 -x c++
t uapi-m32-c++17 compile uapi/shmipc.h "${m32[@]}" -std=c++17 -x c++
t public-c11 compile shmipc/shmipc.h -std=c11 -pedantic -x c
t public-c++17 compile shmipc/shmipc.h -std=c++17 -pedantic -x c++
t exports-prefixed exports_prefixed
t exports-declared exports_declared
t floors-of-other-checks floors
t man-pages man_pages
t version-everywhere version_everywhere
t spdx-every-file spdx
t shellcheck shell_clean
tap_end
