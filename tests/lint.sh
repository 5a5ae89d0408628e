#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What other tools than the compiler say: the module with W=1, clang-tidy, cppcheck. Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
version=$(cat VERSION)

module_w1() {
	local out
	out=$(make modules "KDIR=$(tests/vm/kernel.sh bookworm)/headers" "BUILD=$PWD/build/w1" W=1 2>&1) ||
		{ echo "$out"; return 1; }
	# "Skipping BTF" is about the headers, which come without a vmlinux.
	! grep -i 'warning' <<<"$out"
}

tidy() {
	command -v clang-tidy >/dev/null || skip "no clang-tidy"
	clang-tidy --quiet lib/*.c tools/*.c tools/*/*.c -- -std=gnu11 -D_GNU_SOURCE -I. -Ilib/include -Ilib \
		"-DSHMIPC_VERSION=\"$version\""
}

cpp_check() {
	command -v cppcheck >/dev/null || skip "no cppcheck"
	cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
		-D_GNU_SOURCE -I. -Ilib/include -Ilib "-DSHMIPC_VERSION=\"$version\"" lib tools examples
}

t module-W=1 module_w1
t clang-tidy tidy
t cppcheck cpp_check
tap_end
