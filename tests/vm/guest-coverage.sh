#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# guest-coverage.sh: in the guest, once the module is gone: what the kernel counted of its lines, as "GCDA NAME BASE64",
# for coverage.sh. The files of debugfs say that they are empty, so that they are copied by reading.
find /sys/kernel/debug/gcov -name '*.gcda' | while read -r file; do
	gzip -c <"$file" | base64 | sed "s|^|GCDA ${file##*/} |"
done
