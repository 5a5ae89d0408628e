#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Build, install, use and uninstall in an empty Debian 12, as a user would. Prints TAP. Needs root
# for the chroot. The root's tar is kept in the cache; each run unpacks a fresh copy.
set -euo pipefail

cd "$(dirname "$0")/.."
if ((EUID != 0)); then
	echo "check-install needs root, for debootstrap and chroot"
	exit 77
fi
# Mounts made here end with this process.
if [[ -z ${SHMIPC_INSTALL_NS-} ]]; then
	SHMIPC_INSTALL_NS=1 exec unshare --mount --propagation private -- "$0"
fi
# shellcheck source=tests/tap.sh
. tests/tap.sh

suite=bookworm
packages=make,gcc,g++,libc6-dev,pkg-config,libmnl-dev
cache=${SHMIPC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shmipc}/roots
tar=$cache/install-$suite-$(md5sum <<<"$packages" | cut -c1-8).tar
mirror=${SHMIPC_MIRROR:-http://deb.debian.org}/debian
root=
trap '[[ -z $root ]] || { umount "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$root"; }' EXIT
mkdir -p "$cache"
root=$(mktemp -d "$cache/run.XXXXXX")
chmod 755 "$root"

make_tar() {
	local tmp=$root/bootstrap
	debootstrap --variant=minbase "--include=$packages" "$suite" "$tmp" "$mirror"
	rm -rf "$tmp"/var/cache/apt/archives/*.deb "$tmp"/var/lib/apt/lists/*
	tar -C "$tmp" --one-file-system -cf "$tar.tmp" .
	rm -rf --one-file-system "$tmp"
	mv "$tar.tmp" "$tar"
}

in_root() {
	chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/ "$@"
}
as_nobody() {
	in_root SHMIPC_PROVIDER=embedded timeout 30 setpriv --reuid=nobody --regid=nogroup \
		--clear-groups "$@" </dev/null
}

unpack_root() {
	[[ -e $tar ]] || make_tar
	tar -C "$root" -xf "$tar"
	mount -t proc proc "$root/proc"
}

copy_source() {
	mkdir "$root/src" "$root/prog"
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -z --cached --others --exclude-standard
	else
		find . -path ./build -prune -o -type f -print0
	fi | while IFS= read -r -d '' f; do [[ ! -f $f ]] || printf '%s\0' "$f"; done |
		tar --null --files-from=- -cf - | tar -C "$root/src" -xf -
	awk '/^```c$/ && !done { on = 1; next } /^```/ { if (on) done = 1; on = 0 } on' \
		README.md >"$root/prog/prog.c"
	[[ -s $root/prog/prog.c ]] || { echo "README.md has no C program"; return 1; }
	chmod 755 "$root/prog"
}

# Everything but what the test itself brought: path, type, mode, owner, target of a link.
snapshot() {
	in_root find / -xdev \( -path /proc -o -path /src -o -path /prog -o -path /tmp \) -prune \
		-o -printf '%p %y %m %u:%g %l\n' | sort
}

build_in_root() { in_root make -C /src -j2 all; }
# By name: make installs and removes by one list, which could lack a file both times.
files_there() {
	local f version
	version=$(cat VERSION)
	for f in include/shmipc/shmipc.h include/linux/shmipc.h lib/libshmipc.a lib/libshmipc.so.$version \
		lib/pkgconfig/libshmipc.pc bin/shmipc-cat bin/shmipc-perf share/man/man1/shmipc-cat.1 \
		share/man/man1/shmipc-perf.1 share/man/man3/shmipc_open.3 share/man/man7/shmipc.7 \
		lib/udev/rules.d/60-shmipc.rules lib/modules-load.d/shmipc.conf; do
		grep -qE "^/usr/local/$f f (644|755) root:root " "$root/prog/with" || { echo "not there: $f"; return 1; }
	done
	grep -qE "^/usr/local/lib/libshmipc.so.${version%%.*} l .* libshmipc.so.$version$" "$root/prog/with"
	grep -qE "^/usr/local/lib/libshmipc.so l .* libshmipc.so.${version%%.*}$" "$root/prog/with"
	grep -q '^KERNEL=="shmipc"' "$root/usr/local/lib/udev/rules.d/60-shmipc.rules"
	grep -qx shmipc "$root/usr/local/lib/modules-load.d/shmipc.conf"
}

install_in_root() {
	in_root ldconfig
	snapshot >"$root/prog/before"
	in_root make -C /src install
	snapshot >"$root/prog/with"
	# A comparison that sees no difference now would see none later either.
	! cmp -s "$root/prog/before" "$root/prog/with"
}

# compile OUTPUT COMPILER STANDARD PKG-CONFIG-OPTION LINK-OPTION...
compile() {
	local out=$1 cc=$2 std=$3 pc=$4
	shift 4
	# shellcheck disable=SC2016 # expanded inside the root
	in_root sh -euc 'out=$1; cc=$2; std=$3; pc=$4; shift 4; cd /prog
		case $std in c++*) lang=c++ ;; *) lang=c ;; esac
		"$cc" -Wall -Wextra -Werror -std="$std" -x "$lang" prog.c -x none -o "$out" "$@" \
			$(pkg-config $pc --cflags --libs libshmipc)' \
		- "$out" "$cc" "$std" "$pc" "$@"
}

run_program() { as_nobody "/prog/$1"; }

uses_shared() { in_root ldd "/prog/$1" | grep "libshmipc.so.$(cut -d. -f1 VERSION) => /usr" >/dev/null; }

program() {
	local name=$1
	t "compile-$name" compile "$@"
	t "run-$name" run_program "$name"
}

tools_run() {
	local tool v version
	version=$(cat VERSION)
	for tool in tools/*.c; do
		tool=$(basename "$tool" .c)
		v=$(as_nobody "$tool" --version)
		echo "$tool: $v"
		[[ " $v " == *"$version"* ]]
	done
}

uninstall_in_root() {
	in_root make -C /src uninstall
	snapshot >"$root/prog/after"
	diff -u "$root/prog/before" "$root/prog/after"
}

t unpack-root unpack_root
t copy-source copy_source
t build build_in_root
t install install_in_root
t files-there files_there
program c11-shared gcc c11 ''
t c11-shared-is-shared uses_shared c11-shared
program c++17-shared g++ c++17 ''
program c11-static gcc c11 --static -static
program c++17-static g++ c++17 --static -static
t tools-run tools_run
t uninstall-leaves-nothing uninstall_in_root
tap_end
