#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=dash
#
# guest.sh: starts a Debian whose process 1 is systemd, as in a container, with the machine's devices and control
# groups. It ends with the test that is its one service; what that said is printed.
set -e
mkdir /d
mount -t tmpfs -o size=80% tmpfs /d
tar -C /d -xf /root.tar
tar -C /d -xf /files.tar
rm /root.tar /files.tar
mount -t sysfs sysfs /d/sys
mount --bind /sys/fs/cgroup /d/sys/fs/cgroup
mount --bind /dev /d/dev
mount -t tmpfs tmpfs /d/run
echo hot:x:999:999::/:/bin/sh >>/d/etc/passwd
echo hot:x:999: >>/d/etc/group
chroot /d depmod "$(uname -r)"
chroot /d modprobe shmipc
rm -f /d/etc/machine-id
touch /d/etc/machine-id
unshare -p -f chroot /d /bin/sh -c 'mount -t proc proc /proc &&
	exec env container=qemu /lib/systemd/systemd --system --unit=test.service --log-level=warning --log-target=console' ||
	echo "systemd ended with $?"
cat /d/test.log
rmmod shmipc
tail -n 1 /d/test.log | grep -qx passed
