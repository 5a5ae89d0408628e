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
	perl "$source/scripts/checkpatch.pl" --strict --root="$source" --terse --no-summary --max-line-length=100 \
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

# cocci_one DIR SCRIPT: what one of the kernel's scripts says about DIR.
cocci_one() {
	spatch -D report --no-show-diff --very-quiet --cocci-file "$2" --dir "$1" -I "$source/include" \
		-I "$source/arch/x86/include" --include-headers 2>/dev/null | grep -E "^$1.*:[0-9]+" |
		sed "s|^|${2##*/}: |"
}

# Some scripts are for OCaml, or look at other drivers' data. min() instead of a test for an errno is worse.
cocci() {
	local out
	grep -lE '^virtual report' -r "$source/scripts/coccinelle" --include='*.cocci' |
		xargs grep -LE 'script:ocaml|initialize:ocaml' | grep -v /minmax.cocci | sort >"$tree/scripts"
	wc -l "$tree/scripts"
	(($(wc -l <"$tree/scripts") > 30))
	export -f cocci_one
	export source
	# shellcheck disable=SC2016 # expanded by the inner shell
	out=$(xargs -P "$(nproc)" -I{} bash -c 'cocci_one "$1" "$2" || true' one "$1" {} <"$tree/scripts")
	[[ -z $out ]] || { echo "$out"; return 1; }
}

# Finds what is planted: a check of the checks.
cocci_finds() {
	mkdir "$tree/planted"
	echo 'void f(void *p) { if (p) kfree(p); }' >"$tree/planted/x.c"
	if cocci "$tree/planted" >"$tree/said"; then return 1; fi
	grep -F "$tree/planted/x.c:1:" "$tree/said"
}

tidy() {
	printf '%s\0' "$@" | xargs -0 -P "$(nproc)" -I{} clang-tidy --quiet {} -- -std=gnu11 -D_GNU_SOURCE -I. \
		-Ilib/include -Ilib "-DSHMIPC_VERSION=\"$version\""
}

cpp_check() {
	cppcheck --quiet -j "$(nproc)" --std=c11 --error-exitcode=1 --inline-suppr \
		--enable=warning,portability -D_GNU_SOURCE -D__LP64__ -I. -Ilib/include -Ilib \
		"-DSHMIPC_VERSION=\"$version\"" "$@"
}

# Both see what follows the null pointer.
c_finds() {
	echo 'int f(void); int f(void) { int *p = 0; return *p; }' >"$tree/x.c"
	cp .clang-tidy "$tree/"
	if "$@" "$tree/x.c" >"$tree/said" 2>&1; then return 1; fi
	grep -F "$tree/x.c:1:" "$tree/said"
}

# iput is a function, nam a name in a test.
spelling() {
	git ls-files -z -- ':!LICENSES' ':!tests/vm/selftest/bad-lines' |
		xargs -0 codespell -q 3 --ignore-words-list=iput,nam
}

t checkpatch check_patch
t sparse sparse_check
t module-W=1 module_w1
t coccicheck cocci "$tree/kmod"
t coccicheck-finds cocci_finds
t clang-tidy tidy lib/*.c tools/*.c tools/*/*.c
t clang-tidy-finds c_finds tidy
t cppcheck cpp_check lib tools examples
t cppcheck-finds c_finds cpp_check
t codespell spelling
tap_end
