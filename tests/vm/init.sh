#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=dash
#
# init.sh: process 1 of the guest. Runs /vm/cmd with its output on ttyS1, tells its exit status on ttyS2 and
# ends the machine. The kernel has ttyS0 for itself.

/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /var/tmp /usr/bin
/bin/busybox --install -s /usr/bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C

finish()
{
	echo "shmipc-vm: end of run" >/dev/kmsg
	echo "$1" >/dev/ttyS2
	reboot -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
chmod 1777 /var/tmp
hostname shmipc-vm
ip link set lo up
for tty in ttyS1 ttyS2; do
	stty -F /dev/$tty raw -echo
done

echo "shmipc-vm: init" >/dev/kmsg
if [ -e /shmipc.ko ] && ! insmod /shmipc.ko 2>/tmp/insmod; then
	sed 's/^/guest: /' /tmp/insmod >/dev/ttyS1
	finish "insmod failed"
fi
# Its own session, so that killing its process group can't reach this shell.
setsid sh /vm/cmd </dev/null >/dev/ttyS1 2>&1
status=$?
# Waits until the port has sent everything, also what others who hold it open wrote.
stty -F /dev/ttyS1 raw -echo
finish "exit $status"
