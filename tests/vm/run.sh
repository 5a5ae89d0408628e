#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# run.sh --flavour F [--ko FILE] [--add HOSTPATH[:GUESTPATH]]... [--timeout SEC] [--mem MB] [--smp N] [--icount]
#        [--log FILE] [--append KERNELARGS] -- CMD...
#
# Boot a kernel under QEMU's software emulation and run CMD in it as root. CMD's output streams to stdout, the
# kernel's messages go to the log file. The exit status is
#   3    the kernel log is bad (gate.sh), whatever CMD said
#   4    the rig failed: no kernel, no boot (in SHMIPC_VM_BOOT_LIMIT seconds, 240, twice), the module did not load,
#        no status from the guest
#   124  the time was up
#   else CMD's own
#
# F is a flavour of kernel.sh, or a directory laid out as that one's. --ko: loaded before CMD, /shmipc.ko in the
# guest. --add: a file or directory, with the shared libraries that its programs need; in the guest it is at
# GUESTPATH, else at its own path. --icount: the guest's clock counts instructions, one CPU, repeatable.
#
# Debian packages of the whole rig: qemu-system-x86 (qemu.sh needs its libraries even where it brings another QEMU),
# busybox-static, cpio, debian-archive-keyring; for modules make, gcc-12, libelf1, and debootstrap for trixie and newest.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

flavour='' ko='' log='' append='' timeout=120 mem=1024 smp=2 icount=0 adds=()
while [[ $# -gt 0 && $1 != -- ]]; do
	case $1 in
	--flavour) flavour=$2 ;;
	--ko) ko=$2 ;;
	--add) adds+=("$2") ;;
	--timeout) timeout=$2 ;;
	--mem) mem=$2 ;;
	--smp) smp=$2 ;;
	--log) log=$2 ;;
	--append) append=$2 ;;
	--icount) icount=1 && shift && continue ;;
	*) vm_die "unknown option $1" ;;
	esac
	shift 2
done
shift || true
[[ -n $flavour && $# -gt 0 ]] || vm_die 'usage: run.sh --flavour F [options] -- CMD...'
vm_need cpio ldd timeout tail
[[ -x /bin/busybox ]] || vm_die '/bin/busybox not found; install busybox-static'

tmp=$(mktemp -d)
qemu=
cleanup()
{
	[[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
log=${log:-$tmp/kernel.log}

# shellcheck source-path=SCRIPTDIR source=initramfs.sh
. "$vm_dir/initramfs.sh"

# Kernels from 7.x patch their code all the time, and an emulator with a thread for each CPU now and then runs
# half-patched code (Oops: int3, early in the boot). One thread for all CPUs can't.
threads=multi
[[ $flavour != newest ]] || threads=single

# An empty disk is there for O_DIRECT; NVMe, because that is what the stock kernels have without a module.
# init_on_alloc=0: Debian's kernels zero pages by themselves, which would hide a module that doesn't.
boot()
{
	local accel=(-accel "tcg,thread=$threads" -smp "$smp")

	[[ $icount == 0 ]] || accel=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off' -smp 1)
	# -cx16: kernels from 6.12 on crash on some QEMUs' emulation of that instruction.
	# -la57: while a kernel identifies its CPU it takes itself for one of four levels for a moment, and an interrupt
	# then makes the debug kernel's KASAN report a wild access.
	timeout -k 5 "$timeout" "${emulator[@]}" "${accel[@]}" -cpu 'max,-cx16,-la57' -m "$mem" \
		-nodefaults -no-user-config -display none -no-reboot -M pc \
		-drive "if=none,id=disk,format=raw,file=$tmp/disk" -device nvme,drive=disk,serial=shmipc \
		-kernel "$kernel/vmlinuz" -initrd "$tmp/initrd" \
		-append "console=ttyS0 panic=-1 oops=panic rdinit=/init tsc=reliable mitigations=off \
log_buf_len=4M ignore_loglevel init_on_alloc=0 $append" \
		-serial "file:$log" -serial "file:$tmp/out" -serial "file:$tmp/status" \
		</dev/null >"$tmp/qemu" 2>&1 &
	qemu=$!
}

# init.sh says so before it loads the module: until then nothing but the kernel and the emulator has run.
booted()
{
	grep -qs '^.*shmipc-vm: init' "$log"
}

boot_watch()
{
	local left

	for ((left = 2 * ${SHMIPC_VM_BOOT_LIMIT:-240}; left > 0; left--)); do
		! booted && kill -0 "$qemu" 2>/dev/null || return 0
		sleep 0.5
	done
	booted || { : >"$tmp/hung" && kill "$qemu"; }
}

# Leaves QEMU's exit status in rc.
boot_and_wait()
{
	local tail watch

	: >"$tmp/out"
	: >"$tmp/status"
	rm -f "$tmp/hung" "$log"
	boot
	tail -c +1 -s 0.1 -f --pid="$qemu" "$tmp/out" &
	tail=$!
	boot_watch &
	watch=$!
	rc=0
	wait "$qemu" || rc=$?
	qemu=
	wait "$watch" || true
	wait "$tail" || true
}

verdict()
{
	local rc=$1 status

	status=$(tr -d '\r\n' <"$tmp/status")
	[[ ! -e $tmp/hung ]] || vm_die 'the kernel hung in its boot, twice'
	if [[ $rc == 124 || $rc == 137 ]]; then
		"$vm_dir/gate.sh" "$log" >&2 || true
		echo "run.sh: time is up after $timeout s" >&2
		return 124
	fi
	if [[ $rc != 0 ]]; then
		cat "$tmp/qemu" >&2
		vm_die "QEMU ended with $rc"
	fi
	"$vm_dir/gate.sh" "$log" || return
	[[ $status =~ ^exit\ ([0-9]+)$ ]] || vm_die "the guest says: ${status:-nothing}"
	return "${BASH_REMATCH[1]}"
}

if [[ $flavour == */* ]]; then
	kernel=$(readlink -f "$flavour")
else
	kernel=$("$vm_dir/kernel.sh" "$flavour")
fi
emulator=$("$vm_dir/qemu.sh")
mapfile -t emulator <<<"$emulator"
initramfs_make "$tmp/root" "$tmp/initrd" "$ko" "$@"
truncate -s 1M "$tmp/disk"
boot_and_wait
# QEMU's threads can stumble over each other while the guest places its devices, and end in an assertion of its own or
# leave the kernel waiting for a device. Both before the module is loaded, so that no fault of ours is passed over.
if [[ -e $tmp/hung ]]; then
	vm_note "the kernel hung in its boot; once more: $(tail -n 1 "$log")"
	boot_and_wait
elif [[ $rc == 134 && ! -s $tmp/out ]]; then
	vm_note "QEMU aborted before the guest ran anything; once more: $(tail -n 1 "$tmp/qemu")"
	boot_and_wait
fi
verdict "$rc"
