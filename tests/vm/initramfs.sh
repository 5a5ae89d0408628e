# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash disable=SC2154 # vm_dir and adds are run.sh's
# initramfs.sh: the guest's file system, all of it in memory. Sourced by run.sh.

# initramfs_make ROOT IMAGE KO CMD...: uncompressed, for what is saved in reading is lost in unpacking.
initramfs_make()
{
	local root=$1 image=$2 ko=$3 add

	initramfs_base "$root"
	[[ -z $ko ]] || cp "$ko" "$root/shmipc.ko"
	for add in "${adds[@]}"; do
		initramfs_add "$root" "${add%%:*}" "${add#*:}"
	done
	initramfs_libraries "$root"
	initramfs_quote "${@:4}" >"$root/vm/cmd"
	(cd "$root" && find . -print0 | cpio --quiet -0 -o -H newc -R 0:0) >"$image"
	rm -rf "$root"
}

initramfs_base()
{
	mkdir -p "$1"/{vm,dev,etc,usr/{bin,sbin,lib,lib64,lib32}}
	for dir in bin sbin lib lib64 lib32; do
		ln -s "usr/$dir" "$1/$dir"
	done
	cp /bin/busybox "$1/bin/"
	cp "$vm_dir/init.sh" "$1/init"
	chmod 755 "$1/init"
	printf '%s\n' root:x:0:0:root:/root:/bin/sh \
		nobody:x:65534:65534:nobody:/:/bin/sh >"$1/etc/passwd"
	printf '%s\n' root:x:0: nogroup:x:65534: >"$1/etc/group"
	# Of the guest, for whoever asks for more: "files" alone needs no further library.
	printf '%s\n' 'passwd: files' 'group: files' >"$1/etc/nsswitch.conf"
}

# A single file is copied for what it is, a directory with its links.
initramfs_add()
{
	local root=$1 from=$2 to=$1/$3

	[[ -e $from ]] || vm_die "no such file to add: $from"
	mkdir -p "$(dirname "$to")"
	if [[ -d $from ]]; then
		mkdir -p "$to"
		cp -a "$from/." "$to/"
	else
		cp -L "$from" "$to"
	fi
}

# What ldd finds goes to the same path. What it does not find must be among what was added.
initramfs_libraries()
{
	local root=$1 file lib magic

	while IFS= read -r -d '' file; do
		IFS= read -r -n 4 magic <"$file" || true
		[[ $magic != $'\x7fELF' ]] || ldd "$file" 2>/dev/null || true
	done 2>/dev/null < <(find "$root" -type f -size +0 ! -name '*.ko' ! -name busybox -print0) |
		awk '/not found/ { print "?" $1; next }
			$2 == "=>" && $3 ~ /^\// { print $3; next }
			$1 ~ /^\// { print $1 }' | sort -u >"$root/vm/libs"
	while IFS= read -r lib; do
		if [[ $lib == \?* ]]; then
			[[ -n $(find "$root" -name "${lib#\?}" -print -quit) ]] ||
				vm_die "library ${lib#\?} is neither installed nor added"
		elif [[ ! -e $root$lib && $lib != "$root"/* ]]; then
			mkdir -p "$(dirname "$root$lib")"
			cp -L "$lib" "$root$lib"
		fi
	done <"$root/vm/libs"
}

# Single quotes are all that the guest's shell and this one agree on.
initramfs_quote()
{
	local arg

	printf exec
	for arg; do
		printf " '%s'" "${arg//\'/\'\\\'\'}"
	done
	echo
}
