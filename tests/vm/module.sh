#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# module.sh FLAVOUR SRCDIR OUTDIR [MAKEARG...]: build SRCDIR's module for a kernel of kernel.sh, or, where FLAVOUR
# holds a slash, for the kernel in that directory (laid out as kernel.sh does).
#
# Leaves OUTDIR/*.ko; the sources are copied to OUTDIR/src and built there, so that SRCDIR stays clean and
# flavours build side by side. Nothing is done when sources, kernel and arguments are those of the last build.
#
# trixie and newest are built in the root of trixie-root.sh, entered by chroot, all else with the machine's gcc.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

sources=(Kbuild VERSION kmod uapi)

present_sources()
{
	local name

	for name in "${sources[@]}"; do
		[[ ! -e $src/$name ]] || echo "$name"
	done
}

fingerprint()
{
	echo "$kernel" "${make_args[@]}"
	sha256sum "$0"
	(cd "$src" && present_sources | xargs -I{} find {} -type f -print0 | LC_ALL=C sort -z |
		xargs -0 sha256sum)
}

# Copies by content, so that make rebuilds what changed and nothing else, whatever the files' times say.
copy_sources()
{
	local file

	mkdir -p "$out/src"
	(cd "$src" && present_sources | xargs -I{} find {} -type f) | while IFS= read -r file; do
		cmp -s "$src/$file" "$out/src/$file" && continue
		mkdir -p "$(dirname "$out/src/$file")"
		cp "$src/$file" "$out/src/$file"
	done
	find "$out/src" -type f \( -name '*.[chS]' -o -name '*.mk' -o -name Kbuild -o -name Makefile \) \
		! -name '*.mod.c' -printf '%P\n' | while IFS= read -r file; do
		[[ $file == .* || -e $src/$file ]] || rm "$out/src/$file"
	done
}

build_host()
{
	make -C "$kernel/headers" M="$out/src" -j"$(nproc)" "${make_args[@]}" modules
}

build_chroot()
{
	local root

	root=$("$vm_dir/trixie-root.sh")
	# shellcheck disable=SC2016 # expanded inside
	unshare -m bash -euc '
		mount --bind "$1" "$3/k"
		mount --bind "$2" "$3/b"
		mount -t proc proc "$3/proc"
		root=$3
		shift 3
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C \
			make -C /k/headers M=/b "$@" modules
	' build "$kernel" "$out/src" "$root" -j"$(nproc)" "${make_args[@]}"
}

[[ $# -ge 3 ]] || vm_die 'usage: module.sh FLAVOUR SRCDIR OUTDIR [MAKEARG...]'
flavour=$1 src=$(readlink -f "$2")
mkdir -p "$3"
out=$(readlink -f "$3")
make_args=("${@:4}")
vm_need make flock
if [[ $flavour == */* ]]; then
	kernel=$(readlink -f "$flavour")
else
	kernel=$("$vm_dir/kernel.sh" "$flavour")
fi

exec {out_lock}>"$out/.lock"
flock "$out_lock"
now=$(fingerprint)
if [[ -e $out/.fingerprint && $now == "$(<"$out/.fingerprint")" ]]; then
	exit 0
fi
rm -f "$out"/*.ko "$out/.fingerprint"
if [[ ! -e $out/.kernel || $(<"$out/.kernel") != "$kernel ${make_args[*]}" ]]; then
	rm -rf "$out/src"
	echo "$kernel ${make_args[*]}" >"$out/.kernel"
fi
copy_sources
if [[ $flavour == newest || $flavour == trixie ]]; then
	build_chroot
else
	build_host
fi
cp "$out"/src/*.ko "$out/"
echo "$now" >"$out/.fingerprint"
