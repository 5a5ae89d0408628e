# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Sources appear by themselves: each tools/NAME.c, examples/NAME.c and tests/{unit,integration}/
# test_NAME.c is a program; `make help` lists the targets.

VERSION := $(shell cat VERSION)
MAJOR := $(firstword $(subst ., ,$(VERSION)))

# VARIANT builds stand beside the normal one: asan, tsan, cov, lto, O0, O3 or a compiler's name.
VARIANT ?=
BUILD ?= build
B := $(BUILD)$(if $(VARIANT),/$(VARIANT))

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=

PKG_CONFIG ?= pkg-config
OPT = -O2
OPT_asan = -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
OPT_tsan = -O1 -fno-omit-frame-pointer -fsanitize=thread
OPT_cov = -O0 --coverage
OPT_lto = -O2 -flto=auto
OPT_O0 = -O0
OPT_O3 = -O3
ifneq ($(filter gcc% clang%,$(VARIANT)),)
CC := $(VARIANT)
endif
CFLAGS ?= -g
WARN = -Wall -Wextra -Werror
ALL_CFLAGS = -std=gnu11 $(or $(OPT_$(VARIANT)),$(OPT)) $(WARN) -fPIC -pthread $(CFLAGS)
ALL_CPPFLAGS = -I. -Ilib/include -DSHMIPC_VERSION='"$(VERSION)"' $(CPPFLAGS)
# Empty, so that a source's own "#define _GNU_SOURCE" is the same one. Not for the examples, which
# have to compile as they are where a user copies them.
$(B)/obj/lib/%.o $(B)/obj/tools/%.o $(B)/obj/tests/%.o: private ALL_CPPFLAGS += -D_GNU_SOURCE=
ALL_LDFLAGS = $(or $(OPT_$(VARIANT)),$(OPT)) -pthread $(LDFLAGS)

LIB_SRC := $(wildcard lib/*.c)
LIB_MAP := $(wildcard lib/libshmipc.map)
TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/*.c))
EXAMPLES := $(patsubst examples/%.c,%,$(wildcard examples/*.c))
TEST_DIRS := unit integration kernel
TEST_PROGS := $(patsubst %.c,%,$(foreach d,$(TEST_DIRS),$(wildcard tests/$d/test_*.c)))

# Tests of the module that are compiled for 32 bits as well.
M32_PROGS := $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),m32_abi_each m32_abi_lengths)

objs = $(patsubst %.c,$(B)/obj/%.o,$(1))
# Other sources beside a program's: tools/NAME/*.c for one tool, non-test_* helpers for tests.
helpers = $(call objs,$(filter-out tests/$(1)/test_%,$(wildcard tests/$(1)/*.c)))

LIB_A := $(B)/lib/libshmipc.a
LIB_SO := $(B)/lib/libshmipc.so.$(VERSION)
LIB_PC := $(B)/lib/libshmipc.pc
LIB_LINKS := $(B)/lib/libshmipc.so.$(MAJOR) $(B)/lib/libshmipc.so

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all lib tools examples tests FORCE
all: lib tools examples man

lib: $(if $(LIB_SRC),$(LIB_A) $(LIB_SO) $(LIB_LINKS) $(LIB_PC))
tools: $(TOOLS:%=$(B)/tools/%)
examples: $(EXAMPLES:%=$(B)/examples/%)
tests: $(TEST_PROGS:%=$(B)/%) $(M32_PROGS:%=$(B)/tests/kernel/%)

# Rewritten only when what it holds changes, so that other flags or another VERSION rebuild.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_CPPFLAGS) $(ALL_LDFLAGS))' | \
		cmp -s - $@ || echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_CPPFLAGS) $(ALL_LDFLAGS))' >$@

# Private: else $(B)/flags would hold what the first target of a run adds, and the next run all anew.
$(B)/obj/tests/%.o: private ALL_CPPFLAGS += -Ilib -Itests
$(B)/obj/tools/shmipcctl.o $(B)/obj/tools/shmipcctl/%.o: \
	private ALL_CPPFLAGS += $(shell $(PKG_CONFIG) --cflags libmnl 2>/dev/null)
$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# For VARIANT=lto: optimised as a whole once, and not anew in each program that takes it.
$(B)/lib/libshmipc.o: $(call objs,$(LIB_SRC))
	@mkdir -p $(@D)
	$(CC) $(OPT_lto) -r -flinker-output=nolto-rel -o $@ $^

$(LIB_A): $(if $(filter lto,$(VARIANT)),$(B)/lib/libshmipc.o,$(call objs,$(LIB_SRC)))
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

$(LIB_SO): $(call objs,$(LIB_SRC)) $(LIB_MAP)
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libshmipc.so.$(MAJOR) -Wl,-z,defs \
		$(LIB_MAP:%=-Wl,--version-script=%) -o $@ $(filter %.o,$^)

$(B)/lib/libshmipc.so.$(MAJOR): $(LIB_SO)
	ln -sfn $(<F) $@
$(B)/lib/libshmipc.so: $(B)/lib/libshmipc.so.$(MAJOR)
	ln -sfn $(<F) $@

$(LIB_PC): lib/libshmipc.pc.in VERSION $(B)/flags FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
		-e 's|@VERSION@|$(VERSION)|g' $< >$@.tmp
	@cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

# Tools and examples take the archive: they run from build/ as they are, and an installed tool
# keeps working when an administrator replaces or removes the shared library.
LIBS_shmipcctl = $(shell $(PKG_CONFIG) --libs libmnl 2>/dev/null || echo -lmnl)
link = $(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^)

.SECONDEXPANSION:
$(B)/tools/%: $(B)/obj/tools/%.o $$(call objs,$$(wildcard tools/$$*/*.c)) $(LIB_A)
	@mkdir -p $(@D)
	$(link) $(LIBS_$*)
$(B)/examples/%: $(B)/obj/examples/%.o $(LIB_A)
	@mkdir -p $(@D)
	$(link)
define test_rule
$(B)/tests/$(1)/%: $(B)/obj/tests/$(1)/%.o $(call helpers,$(1)) $(LIB_A)
	@mkdir -p $$(@D)
	$$(link) -lcmocka
endef
$(foreach d,$(TEST_DIRS),$(eval $(call test_rule,$d)))

# Static, for the guest has no 32-bit libraries; the headers are where gcc-N-multilib alone finds none.
$(B)/tests/kernel/m32_%: tests/kernel/test_%.c tests/kernel/abi.h tests/kernel/m32/cmocka.h uapi/shmipc.h
	@mkdir -p $(@D)
	$(CC) -m32 -static -std=gnu11 -O2 $(WARN) -pthread -D_GNU_SOURCE= -D_FILE_OFFSET_BITS=64 \
		-Itests/kernel/m32 -idirafter /usr/include/x86_64-linux-gnu -o $@ $<

-include $(patsubst %,$(B)/obj/%.d,$(basename $(LIB_SRC)) $(TOOLS:%=tools/%) \
	$(EXAMPLES:%=examples/%) $(basename $(wildcard $(TEST_DIRS:%=tests/%/*.c) tools/*/*.c)))

include tests/check.mk tools/install.mk tools/modules.mk

.PHONY: clean help
clean:
	rm -rf $(BUILD)

help:
	@sed -n 's/^##  *//p' $(filter-out %.d,$(MAKEFILE_LIST))

##  all            (default) library, tools, examples and man pages
##  tests          the native test programs
##  clean          remove $(BUILD)
##  Variables: VARIANT=asan|tsan|cov|lto|O0|O3|clang-NN|gcc-NN, PREFIX, LIBDIR, DESTDIR, BUILD, CFLAGS
