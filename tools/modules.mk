# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The kernel module: built from a copy in build/modules/RELEASE, so that several kernels can be
# built side by side and the tree stays clean.

RUNNING_KDIR := /lib/modules/$(shell uname -r)/build
NEWEST_KDIR = $(lastword $(shell ls -d /usr/src/linux-headers-*/include/config/kernel.release \
	2>/dev/null | sed 's|/include/config/kernel.release||' | sort -V))
KDIR ?= $(if $(wildcard $(RUNNING_KDIR)/Makefile),$(RUNNING_KDIR),$(NEWEST_KDIR))
# The name that uname prints; Debian's kernel.release lacks the flavour.
KRELEASE = $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h \
	2>/dev/null)
MODULE_DIR = $(abspath $(BUILD))/modules/$(KRELEASE)
INSTALL_MOD_PATH ?= $(DESTDIR)

.PHONY: modules modules_install kdir-check module-tree
kdir-check:
	@test -n "$(KRELEASE)" || { echo "no kernel headers: install linux-headers-amd64," \
		"or give KDIR=" >&2; exit 1; }

# --update keeps the objects of unchanged sources valid.
module-tree: kdir-check
	@mkdir -p $(MODULE_DIR)
	@cp -R --preserve=timestamps --update Kbuild VERSION kmod uapi $(MODULE_DIR)/

modules: module-tree
	+$(MAKE) -C $(KDIR) M=$(MODULE_DIR) modules

modules_install: kdir-check
	+$(MAKE) -C $(KDIR) M=$(MODULE_DIR) INSTALL_MOD_PATH=$(INSTALL_MOD_PATH) modules_install

# KVER names the kernel. A private place for tests: DKMS_SRCTREE=DIR and
# DKMS_FLAGS="--dkmstree DIR --installtree DIR".
DKMS ?= dkms
DKMS_FLAGS ?=
DKMS_SRCTREE ?= /usr/src
KVER ?= $(shell uname -r)
DKMS_SRC = $(DESTDIR)$(DKMS_SRCTREE)/shmipc-$(VERSION)
DKMS_CALL = --sourcetree $(DKMS_SRCTREE) $(DKMS_FLAGS) -m shmipc -v $(VERSION)

.PHONY: dkms-source dkms-install dkms-remove
dkms-source:
	rm -rf $(DKMS_SRC)
	mkdir -p $(DKMS_SRC)/LICENSES
	cp -R Kbuild VERSION dkms.conf kmod uapi $(DKMS_SRC)/
	cp LICENSES/GPL-2.0-only.txt LICENSES/Linux-syscall-note.txt $(DKMS_SRC)/LICENSES/

# dkms adds no version twice: one that is there goes first, so that this also installs a changed source anew.
dkms-install: dkms-source
	$(if $(DESTDIR),,! $(DKMS) status $(DKMS_CALL) | grep -q . || $(DKMS) remove $(DKMS_CALL) --all)
	$(if $(DESTDIR),,$(DKMS) add $(DKMS_CALL))
	$(if $(DESTDIR),,$(DKMS) install $(DKMS_CALL) -k $(KVER))

dkms-remove:
	$(if $(DESTDIR),,-$(DKMS) remove $(DKMS_CALL) --all)
	rm -rf $(DKMS_SRC)

##  modules        shmipc.ko in build/modules/RELEASE (KDIR=headers; else running or newest)
##  modules_install, dkms-install, dkms-remove  (KVER=RELEASE, DKMS_FLAGS=)
