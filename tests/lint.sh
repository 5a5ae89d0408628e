#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What other tools than the compiler say. The module: checkpatch --strict, sparse, Coccinelle's scripts of the kernel,
# W=1. Library, tools and examples: clang-tidy, cppcheck. All: codespell (shellcheck is in static.sh). Prints TAP.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
version=$(cat VERSION)
source=$(tests/vm/debug-kernel.sh --source)
kernel=$(tests/vm/kernel.sh debug)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -R Kbuild VERSION kmod uapi "$tree/"

# Ignored: macros that are lists (X-macros), which no parentheses and no single use can be had for; comments at locks, which
# are in each struct's kernel-doc; BIT(), which user space has not. A header for user space has _Static_assert.
check_patch() {
	cd "$tree" # where it may leave its notes
	perl "$source/scripts/checkpatch.pl" --strict --no-tree --terse --no-summary --max-line-length=100 \
		--ignore COMPLEX_MACRO,MACRO_ARG_REUSE,TRAILING_SEMICOLON,UNCOMMENTED_DEFINITION,BIT_MACRO,CAMELCASE \
		-f kmod/*.[ch] kmod/tests/*.[ch] kmod/compat/*.h kmod/compat/probe/*.c uapi/shmipc.h
}

# module MAKEARG...: what the build says beside its progress; any such line is a finding.
module() {
	local out
	out=$(make -C "$kernel/headers" M="$tree" "$@" modules 2>&1) || { echo "$out"; return 1; }
	! grep -vE '^ +[A-Z]+( \[M\])? |^make(\[|:)' <<<"$out" | grep "$tree"
}

sparse_check() {
	module C=2 CHECK=sparse CONFIG_SHMIPC_KUNIT_TEST=y
}

module_w1() {
	touch "$tree"/kmod/*.c "$tree"/kmod/tests/*.c
	module W=1 CONFIG_SHMIPC_KUNIT_TEST=y
}

# Each script by itself; some are for OCaml, or look at other drivers' data.
cocci() {
	local script out bad=0 n=0
	while IFS= read -r script; do
		out=$(spatch -D report --no-show-diff --very-quiet --cocci-file "$script" --dir "$tree" \
			-I "$source/include" -I "$source/arch/x86/include" --include-headers 2>/dev/null |
			grep -E "^$tree.*:[0-9]+" || true)
		n=$((n + 1))
		[[ -z $out ]] || { echo "${script##*/}: $out"; bad=1; }
	done < <(grep -lE '^virtual report' -r "$source/scripts/coccinelle" --include='*.cocci' |
		xargs grep -LE 'script:ocaml|initialize:ocaml' | sort)
	echo "$n scripts"
	((n > 30)) && return $bad
}

# Finds what is planted: a check of the checks.
cocci_finds() {
	mkdir "$tree/planted"
	cat >"$tree/planted/x.c" <<-'X'
	void f(void *p) { if (p) kfree(p); }
	X
	if cocci; then
		echo "the planted fault was not found"
		return 1
	fi
	rm -r "$tree/planted"
}

tidy() {
	command -v clang-tidy >/dev/null || skip "no clang-tidy"
	clang-tidy --quiet lib/*.c tools/*.c tools/*/*.c -- -std=gnu11 -D_GNU_SOURCE -I. -Ilib/include -Ilib \
		"-DSHMIPC_VERSION=\"$version\""
}

cpp_check() {
	command -v cppcheck >/dev/null || skip "no cppcheck"
	cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
		-D_GNU_SOURCE -D__LP64__ -I. -Ilib/include -Ilib "-DSHMIPC_VERSION=\"$version\"" lib tools examples
}

# iput is a function, nam a name in a test.
spelling() {
	git ls-files -z -- ':!LICENSES' ':!tests/vm/selftest/bad-lines' |
		xargs -0 codespell -q 3 --ignore-words-list=iput,nam
}

t checkpatch check_patch
t sparse sparse_check
t module-W=1 module_w1
t coccicheck cocci
t coccicheck-finds cocci_finds
t clang-tidy tidy
t cppcheck cpp_check
t codespell spelling
tap_end
