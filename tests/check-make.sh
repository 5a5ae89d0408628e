#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What packagers rely on: install and uninstall below DESTDIR and another PREFIX, file by file, and
# targets that stay in order under -j. Prints TAP. Needs no root.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
version=$(cat VERSION)
major=${version%%.*}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset MAKEFLAGS MAKELEVEL

# expected PREFIX LIBDIR: mode and path of each file and link, the library's own pages aside.
expected() {
	local f
	for f in shmipc/shmipc.h linux/shmipc.h; do echo "644 $1/include/$f"; done
	echo "644 $2/libshmipc.a"
	echo "755 $2/libshmipc.so.$version"
	echo "777 $2/libshmipc.so.$major -> libshmipc.so.$version"
	echo "777 $2/libshmipc.so -> libshmipc.so.$major"
	echo "644 $2/pkgconfig/libshmipc.pc"
	for f in shmipc-cat shmipc-perf; do
		echo "755 $1/bin/$f"
		echo "644 $1/share/man/man1/$f.1"
	done
	echo "644 $1/share/man/man7/shmipc.7"
	for f in $(nm -D --defined-only "$tmp/build/lib/libshmipc.so" |
		awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }'); do
		echo "644 $1/share/man/man3/$f.3"
	done
	for f in event stats options peer_info span message offer_options adopted; do
		echo "644 $1/share/man/man3/shmipc_$f.3"
	done
	echo "644 $1/lib/udev/rules.d/60-shmipc.rules"
	echo "644 $1/lib/modules-load.d/shmipc.conf"
}

installed() { (cd "$1" && find . \( -type l -printf '%m /%P -> %l\n' \) -o \( ! -type d -printf '%m /%P\n' \)); }

# install_to PREFIX VARIABLE...: then what is there is compared, used, and taken away.
install_to() {
	local prefix=$1 dir=$tmp/dest libdir=$1/lib
	shift
	[[ ${1-} != LIBDIR=* ]] || libdir=${1#LIBDIR=}
	rm -rf "$dir"
	make -s install "BUILD=$tmp/build" "DESTDIR=$dir" "PREFIX=$prefix" "$@"
	diff -u <(expected "$prefix" "$libdir" | sort) <(installed "$dir" | sort)
	use "$dir" "$prefix" "$libdir"
	make -s uninstall "BUILD=$tmp/build" "DESTDIR=$dir" "PREFIX=$prefix" "$@"
	# Folders that are everybody's may stay.
	diff -u /dev/null <(installed "$dir")
	! find "$dir" -type d \( -name '*shmipc*' -o -name pkgconfig -o -name '*.d' -o -name 'man[1-9]' \) | grep .
}

# use DESTDIR PREFIX LIBDIR: a program builds with what pkg-config says, and runs.
use() {
	local flags
	flags=$(PKG_CONFIG_PATH=$1$3/pkgconfig PKG_CONFIG_SYSROOT_DIR=$1 pkg-config --cflags --libs libshmipc)
	[[ " $flags " == *" -I$1$2/include "* && " $flags " == *" -L$1$3 "* ]] || { echo "$flags"; return 1; }
	printf '#include <shmipc/shmipc.h>\n#include <stdio.h>\nint main(void) { puts(shmipc_version()); }\n' >"$tmp/p.c"
	# shellcheck disable=SC2086 # words
	gcc -Wall -Wextra -Werror -o "$tmp/p" "$tmp/p.c" $flags
	[[ $(LD_LIBRARY_PATH=$1$3 "$tmp/p") == "$version" ]]
	[[ $("$1$2/bin/shmipc-cat" --version) == *"$version"* ]]
}

# A machine without a compiler: whatever runs one before the packages are there fails.
order() {
	local target=$1
	mkdir -p "$tmp/bare"
	git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - | tar -xf - -C "$tmp/bare"
	printf '#!/bin/bash\nsleep 1\ntouch %q\n' "$tmp/bare/ready" >"$tmp/bare/tests/deps.sh"
	# It makes what it is asked for, of nothing; questions may come before the packages.
	# shellcheck disable=SC2016 # the script's
	printf '#!/bin/bash\n[[ " $* " == *" -o "* ]] || exit 0\n[[ -e %q ]] || { echo too early; touch %q; exit 1; }\n%s\n' \
		"$tmp/bare/ready" "$tmp/bare/early" \
		'while [[ $1 != -o ]]; do shift; done; touch "$2"; chmod +x "$2"' >"$tmp/bare/cc"
	printf '#!/bin/bash\n[[ -e %q && -x build/tools/shmipc-cat ]]\n' "$tmp/bare/ready" |
		tee "$tmp/bare/tests/demo.sh" "$tmp/bare/tests/vm/demo.sh" "$tmp/bare/tests/bench.sh" \
			"$tmp/bare/tests/vm/bench.sh" >"$tmp/bare/tests/mutants/run.sh"
	chmod +x "$tmp/bare/cc"
	if [[ $target == mutants ]]; then # builds in copies of its own
		printf '#!/bin/bash\n[[ -e %q ]]\n' "$tmp/bare/ready" >"$tmp/bare/tests/mutants/run.sh"
	fi
	make -s -C "$tmp/bare" -j4 "CC=$tmp/bare/cc" "$target"
	[[ ! -e $tmp/bare/early ]]
	rm -rf "$tmp/bare"
}

# The build at hand, with its times, so that only what depends on PREFIX is made anew.
copy_build() {
	cp -a "${BUILD:-build}" "$tmp/build"
	make -s -j2 "BUILD=$tmp/build" all
}

t copy-build copy_build
t usr install_to /usr
t multiarch install_to /usr LIBDIR=/usr/lib/x86_64-linux-gnu
t opt install_to /opt/shm
for target in demo demo-vm bench bench-vm mutants; do
	t "order-$target" order "$target"
done
tap_end
