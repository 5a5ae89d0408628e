# SPDX-License-Identifier: GPL-2.0-only
# The objects of shmipc.ko: a file each.

shmipc-y := kmod/main.o kmod/endpoint.o kmod/handle.o kmod/segment.o kmod/view.o
shmipc-y += kmod/mapping.o kmod/give.o
shmipc-y += kmod/session.o kmod/listener.o kmod/connect.o kmod/sync.o kmod/ready.o kmod/account.o
shmipc-y += kmod/attachment.o kmod/offer.o kmod/holdings.o kmod/handover.o kmod/orphan.o kmod/list.o

# The KUnit suites: each is included by the source that it tests. A kernel tree defines the symbol itself.
shmipc-$(CONFIG_SHMIPC_KUNIT_TEST) += kmod/tests/fixture.o
ccflags-$(CONFIG_SHMIPC_KUNIT_TEST) += -DCONFIG_SHMIPC_KUNIT_TEST=1
