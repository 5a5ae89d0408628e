# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# install and uninstall: both walk the one list below, so that nothing can be left behind.

INSTALL ?= install
BINDIR = $(PREFIX)/bin
INCDIR = $(PREFIX)/include
MANDIR = $(PREFIX)/share/man
UDEVDIR ?= $(PREFIX)/lib/udev/rules.d
MODLOADDIR ?= $(PREFIX)/lib/modules-load.d

# Pages of the library are made from the comments of its header.
HEADER := lib/include/shmipc/shmipc.h
LIB_PAGES := $(B)/man/shmipc.7 $(patsubst %,$(B)/man/%.3,\
	$(shell sed -nE 's,^(/\*\*| \*) (struct )?(shmipc_[a-z_]+) - .*,\3,p' $(HEADER)))
$(B)/man/made: tools/man.awk $(HEADER) VERSION
	@mkdir -p $(@D)
	@rm -f $(@D)/*
	awk -v dir=$(@D) -v version=$(VERSION) -f tools/man.awk $(HEADER)
	@touch $@
$(LIB_PAGES): $(B)/man/made

MAN_PAGES := $(wildcard docs/man/*.[1-8]) $(LIB_PAGES)
man_target = $(MANDIR)/man$(subst .,,$(suffix $(1)))/$(notdir $(1))

# Each entry is MODE:SOURCE:TARGET.
INSTALL_LIST = \
	$(foreach h,$(wildcard lib/include/shmipc/*.h),644:$h:$(INCDIR)/shmipc/$(notdir $h)) \
	$(foreach h,$(wildcard uapi/shmipc.h),644:$h:$(INCDIR)/linux/$(notdir $h)) \
	644:$(LIB_A):$(LIBDIR)/libshmipc.a \
	755:$(LIB_SO):$(LIBDIR)/libshmipc.so.$(VERSION) \
	644:$(LIB_PC):$(LIBDIR)/pkgconfig/libshmipc.pc \
	$(foreach t,$(TOOLS),755:$(B)/tools/$t:$(BINDIR)/$t) \
	$(foreach m,$(MAN_PAGES),644:$m:$(call man_target,$m)) \
	644:tools/udev/60-shmipc.rules:$(UDEVDIR)/60-shmipc.rules \
	644:tools/udev/shmipc.conf:$(MODLOADDIR)/shmipc.conf
INSTALL_LINKS = $(LIBDIR)/libshmipc.so.$(MAJOR) $(LIBDIR)/libshmipc.so
# Ours alone, or made by us where the system had none; removed only when empty.
INSTALL_DIRS = $(INCDIR)/shmipc $(INCDIR)/linux $(LIBDIR)/pkgconfig $(UDEVDIR) \
	$(patsubst %/,%,$(dir $(UDEVDIR))) $(MODLOADDIR) $(sort $(foreach m,$(MAN_PAGES),\
	$(patsubst %/,%,$(dir $(call man_target,$m)))))

field = $(word $(1),$(subst :, ,$(2)))

.PHONY: man install uninstall
man: $(LIB_PAGES)
install: lib tools man
	@set -e; $(foreach e,$(INSTALL_LIST),$(INSTALL) -D -m $(call field,1,$e) \
		$(call field,2,$e) $(DESTDIR)$(call field,3,$e);)
	ln -sfn libshmipc.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libshmipc.so.$(MAJOR)
	ln -sfn libshmipc.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libshmipc.so
	$(if $(DESTDIR),,ldconfig)

uninstall:
	rm -f $(foreach e,$(INSTALL_LIST),$(DESTDIR)$(call field,3,$e)) \
		$(addprefix $(DESTDIR),$(INSTALL_LINKS))
	@rmdir $(addprefix $(DESTDIR),$(INSTALL_DIRS)) 2>/dev/null || true
	$(if $(DESTDIR),,ldconfig)

##  install, uninstall  (PREFIX, DESTDIR); ldconfig runs only when DESTDIR is empty
