#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Install the Debian packages that are missing: deps.sh [build|modules|native|bench|vm|install|lint|long|all]...
# Without the rights to install, prints the one line that would and fails.
set -euo pipefail

gcc_major=$(gcc -dumpversion 2>/dev/null || echo 12)

packages() {
	case $1 in
	build) echo gcc libc6-dev make pkg-config libmnl-dev ;;
	# gcc-N-multilib rather than gcc-multilib, which conflicts with the cross compilers.
	native) packages build
		echo g++ binutils git jq libcmocka-dev shellcheck groff-base "gcc-${gcc_major%%.*}-multilib" ;;
	# The peers of the benchmark that are libraries, and what draws its plots.
	bench) packages build; echo gnuplot-nox libqb100 libzmq5 libnng1 ;;
	vm) packages native
		echo qemu-system-x86 busybox-static cpio kmod procps apt debian-archive-keyring \
			debootstrap mount libelf1 libssl3 flex bison bc libelf-dev xz-utils ;;
	install) packages vm; echo dkms ;;
	modules) packages build; echo linux-headers-amd64 ;;
	lint) packages vm; echo clang-tidy cppcheck sparse coccinelle codespell perl ;;
	long) packages all; echo clang clang-14 clang-16 gcc-11 python3 systemd ;;
	all) packages install; packages lint ;;
	*) echo "deps.sh: no such group: $1" >&2; exit 2 ;;
	esac
}

if ! command -v dpkg-query >/dev/null; then
	echo "deps: no dpkg here; the Debian names of what is needed:" >&2
	for g in "${@:-all}"; do packages "$g"; done | tr '\n' ' ' >&2
	echo >&2
	exit 0
fi

missing=()
wanted=$(for g in "${@:-all}"; do packages "$g"; done | tr ' ' '\n' | sort -u)
for p in $wanted; do
	dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep '^install ok installed' >/dev/null ||
		missing+=("$p")
done
((${#missing[@]})) || exit 0

install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
if ((EUID != 0)); then
	echo "missing packages; install them with: sudo ${install[*]}" >&2
	exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A first try with the lists at hand; an empty or old list is the usual reason to fail.
"${install[@]}" >/dev/null 2>&1 || { apt-get update -q >/dev/null; "${install[@]}" >/dev/null; }
