#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# check-systemd.sh: examples/hot_server.service under systemd, in a Debian 12 in QEMU, over the module: started, upgraded by
# a reload, killed and started again, stopped, with clients that lose nothing. Prints TAP. Needs root, for debootstrap.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=../tap.sh
. "$vm_dir/../tap.sh"

if ((EUID != 0)); then
	echo "check-systemd needs root, for debootstrap"
	exit 77
fi
cd "$vm_dir/../.."
build=$(realpath "${BUILD:-build}")
packages=systemd,kmod,procps
tar=$vm_cache/roots/systemd-bookworm-$(md5sum <<<"$packages" | cut -c1-8).tar
tmp=$(mktemp -d)
trap 'rm -rf --one-file-system "$tmp"' EXIT

# Once, without what nothing here reads: all of it is in the guest's memory.
make_root()
{
	mkdir -p "${tar%/*}"
	unshare -m debootstrap --variant=minbase --include="$packages" bookworm "$tmp/root" "$vm_mirror/debian"
	rm -rf "$tmp/root"/{var/cache/apt,var/lib/apt,usr/share/{doc,man,locale,info,zoneinfo},usr/lib/python3*,usr/share/perl}
	tar -C "$tmp/root" --one-file-system -cf "$tar.tmp" .
	rm -rf --one-file-system "$tmp/root"
	mv "$tar.tmp" "$tar"
}

# What is beside the root: the server, its unit and its user, the clients, the module, and the test.
make_files()
{
	local files=$tmp/files modules

	modules=$files/lib/modules/$(cat "$(tests/vm/kernel.sh bookworm)/release")
	mkdir -p "$files/usr/local/bin" "$files/etc/systemd/system" "$modules/extra"
	tests/vm/module.sh bookworm . "$tmp/ko" >&2
	cp "$tmp/ko/shmipc.ko" "$modules/extra/"
	touch "$modules"/modules.{order,builtin,builtin.modinfo}
	cp "$build"/examples/hot_{server,load} "$files/usr/local/bin/"
	cp examples/hot_server.service tests/vm/systemd/test.service "$files/etc/systemd/system/"
	cp tests/vm/systemd/test.sh "$files/usr/local/bin/test-hot-server"
	tar -C "$files" --owner=0 --group=0 -cf "$tmp/files.tar" .
}

# It can be read, and has no word that systemd does not know.
verify()
{
	sed "s|^ExecStart=/usr/local|ExecStart=$tmp/files/usr/local|" examples/hot_server.service >"$tmp/hot_server.service"
	systemd-analyze verify "$tmp/hot_server.service" >"$tmp/said" 2>&1 || echo "exit $?" >>"$tmp/said"
	cat "$tmp/said"
	[[ ! -s $tmp/said ]]
	sed -i 's/^KillMode=/KilMode=/' "$tmp/hot_server.service"
	systemd-analyze verify "$tmp/hot_server.service" 2>&1 | grep -q KilMode
}

run_unit()
{
	tests/vm/run.sh --flavour bookworm --mem 3000 --timeout 500 --add "$tar:/root.tar" --add "$tmp/files.tar:/files.tar" \
		--add tests/vm/systemd/guest.sh:/guest.sh -- sh /guest.sh | tee "$tmp/out"
	[[ $(tail -n 1 "$tmp/out") == passed ]]
}

if [[ ! -e $tar ]]; then
	make_root >"$tmp/root.log" 2>&1 || { tail -n 20 "$tmp/root.log"; vm_die "no root with systemd"; }
fi
make_files
t unit-is-understood verify
t server-under-systemd run_unit
tap_end
