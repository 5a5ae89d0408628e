/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* provider_kernel.h - where tests put something else in the module's place */
#ifndef SHMIPC_PROVIDER_KERNEL_H
#define SHMIPC_PROVIDER_KERNEL_H

/* As ioctl(2): -1 and errno on failure. */
extern int (*provider_kernel_ioctl)(int fd, unsigned long request, void *arg);
extern const char *provider_kernel_device;

#endif
