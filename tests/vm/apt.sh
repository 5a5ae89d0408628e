# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash disable=SC2154 # vm_cache and vm_mirror are common.sh's
# apt.sh: packages from releases that the machine does not use, with an apt state of our own; the machine's sources,
# lists and packages are neither used nor changed. Sourced. Needs no root.

# vm_apt_setup STATE SUITE...: SUITE is a release of the archive; from here on, vm_apt asks those.
vm_apt_setup()
{
	local state=$vm_cache/apt/$1 suite archive

	shift
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	for suite; do
		archive=debian
		[[ $suite != *-security ]] || archive=debian-security
		echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
			"$vm_mirror/$archive $suite main"
	done >"$state/sources.list"
	vm_apt_opts=(-o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=-
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache"
		-o Acquire::Languages=none -o APT::Sandbox::User= -o APT::Architecture=amd64)
	apt-get -qq "${vm_apt_opts[@]}" -o APT::Update::Error-Mode=any update >&2
}

# vm_apt_field PACKAGE FIELD: of the newest version.
vm_apt_field()
{
	apt-cache "${vm_apt_opts[@]}" show --no-all-versions "$1" | sed -n "s/^$2: //p"
}

# vm_apt_unpack DIR PACKAGE...: download into DIR and unpack there, without their scripts.
vm_apt_unpack()
{
	local dir=$1 deb

	shift
	rm -rf "$dir"
	mkdir -p "$dir/debs"
	(cd "$dir/debs" && apt-get -q "${vm_apt_opts[@]}" download "$@") >&2
	for deb in "$dir"/debs/*.deb; do
		dpkg-deb -x "$deb" "$dir"
	done
	rm -rf "$dir/debs"
}
