#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# debug-kernel.sh [--source]: have the debug kernel in the cache and print its directory, laid out as kernel.sh's:
# Debian's linux-source-6.1 with debug/config on top of tinyconfig. With --source: print the directory of the
# patched sources alone (for checkpatch and Coccinelle's scripts), and build nothing.
#
# What is built is named after the source's version and the configuration, so that a change of either builds anew:
# 13 minutes of processor time. The archive is asked for a newer source at most once a day, never with
# SHMIPC_OFFLINE=1; when it does not answer, the source in the cache is used.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$vm_dir/apt.sh"

package=linux-source-6.1
config=$vm_dir/debug/config
base=$vm_cache/kernels/debug

# Runs apart, for set -e to hold: what has the final name is complete.
fetch()
{
	local version name

	vm_apt_setup debug bookworm bookworm-security
	version=$(vm_apt_field "$package" Version)
	name=source_${version//[:\/~]/_}
	if [[ ! -d $base/$name ]]; then
		vm_note "fetching $package $version"
		vm_apt_unpack "$base/deb" "$package"
		rm -rf "$base/$name.tmp"
		mkdir "$base/$name.tmp"
		tar -xf "$base/deb/usr/src/$package.tar.xz" -C "$base/$name.tmp" --strip-components=1
		rm -rf "$base/deb"
		mv "$base/$name.tmp" "$base/$name"
	fi
	ln -sfn "$name" "$base/source"
	touch "$base/checked"
}

# The configuration is what the file says, or nothing: kconfig drops silently what it cannot have.
configure()
{
	local line missing=

	cp "$config" "$1/kernel/configs/shmipc.config"
	make -C "$1" -s O="$2" tinyconfig shmipc.config >"$2/config.log" 2>&1
	while IFS= read -r line; do
		grep -qxF "$line" "$2/.config" || missing+=" $line"
	done < <(grep ^CONFIG_ "$config")
	[[ -z $missing ]] || vm_die "not in the configuration:$missing"
}

# The objects go: a module is built against the headers, the scripts and Module.symvers.
build()
{
	local source=$1 out=$2

	vm_need gcc make flex bison bc
	vm_note "building the debug kernel (log: $out/build.log)"
	rm -rf "$out"
	mkdir -p "$out/headers"
	configure "$source" "$out/headers"
	make -C "$source" -s O="$out/headers" -j"$(nproc)" bzImage modules >"$out/build.log" 2>&1 ||
		{ tail -n 20 "$out/build.log" >&2; vm_die 'the debug kernel does not build'; }
	mv "$out/headers/arch/x86/boot/bzImage" "$out/vmlinuz"
	cp "$out/headers/include/config/kernel.release" "$out/release"
	find "$out/headers" \( -name '*.o' -o -name '*.a' -o -name 'vmlinux*' -o -name '.*.cmd' \) \
		! -path '*/scripts/*' ! -path '*/tools/*' -delete
}

case ${1:-} in
--fetch) fetch; exit ;;
--build) build "$2" "$3"; exit ;;
'' | --source) ;;
*) vm_die 'usage: debug-kernel.sh [--source]' ;;
esac

vm_need apt-get dpkg-deb flock tar xz
mkdir -p "$base"
# Held while it builds: who comes meanwhile waits, and finds it built.
vm_lock kernel-debug
if [[ ! -e $base/source/Makefile ]] || ! vm_fresh "$base/checked"; then
	[[ ${SHMIPC_OFFLINE:-0} != 1 ]] || vm_die 'no kernel source in the cache and SHMIPC_OFFLINE=1'
	"$0" --fetch || [[ -e $base/source/Makefile ]] || vm_die "cannot fetch $package"
fi
source=$(readlink -f "$base/source")
if [[ ${1:-} == --source ]]; then
	echo "$source"
	exit
fi
kernel=$base/${source##*/source_}_$(grep -v '^#' "$config" | sha256sum | cut -c 1-12)
if [[ ! -d $kernel ]]; then
	"$0" --build "$source" "$kernel.tmp"
	rm -rf "$kernel"
	mv "$kernel.tmp" "$kernel"
fi
echo "$kernel"
