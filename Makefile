# SPDX-License-Identifier: Apache-2.0
#
# One Makefile, not recursive. Objects of each flavour (plain, testmode, asan, tsan, coverage,
# fuzz) have a directory of their own below build/, so that no build mixes them.
# `make help` lists the targets.

PREFIX ?= /usr
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DOCDIR ?= $(DATADIR)/doc/dpu-offload
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=

VERSION := 0.1.0
CC ?= cc
CFLAGS ?= -O2 -g
MAKEFLAGS += --no-builtin-rules

# V=1 shows whole commands.
ifeq ($(V),1)
say =
else
say = @printf '  %-6s %s\n' $(1) '$(2)';
endif

# ---- flavours ---------------------------------------------------------------------------
# FLAVOUR=... chooses one; UDS_TEST_MODE=1 is the guide's name for testmode.
ifeq ($(UDS_TEST_MODE),1)
FLAVOUR ?= testmode
endif
FLAVOUR ?= plain
B := build/$(FLAVOUR)

flavour_plain :=
flavour_testmode := -DTEST_MODE_DEFAULT=true
flavour_asan := -DTEST_MODE_DEFAULT=true -fsanitize=address,undefined -fno-omit-frame-pointer -O1
flavour_tsan := -DTEST_MODE_DEFAULT=true -fsanitize=thread -O1
flavour_coverage := -DTEST_MODE_DEFAULT=true --coverage -O0
flavour_fuzz := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -O1
ifeq ($(filter $(FLAVOUR),plain testmode asan tsan coverage fuzz),)
$(error FLAVOUR=$(FLAVOUR): plain, testmode, asan, tsan, coverage and fuzz are known)
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wvla -Wformat=2 -Wundef -Wwrite-strings
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif
ALL_CPPFLAGS = -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -DSYSCONFDIR='"$(SYSCONFDIR)"' -Icommon $(CPPFLAGS)
ALL_CFLAGS = -std=c11 $(WARNINGS) -fPIC -fvisibility=hidden -fstack-protector-strong -MMD -MP \
	$(flavour_$(FLAVOUR)) $(CFLAGS)
ALL_LDFLAGS = -Wl,-z,relro,-z,now $(filter -fsanitize=% --coverage,$(flavour_$(FLAVOUR))) $(LDFLAGS)

# ---- what is built of what --------------------------------------------------------------
# A program is its directory's files and libcommon.a; see docs/HACKING.md for the ladder.
COMMON := $(patsubst %.c,%,$(wildcard common/*.c))
UDSPROXYD := $(patsubst %.c,%,$(wildcard udsproxyd/*.c))
QTCFG := $(patsubst %.c,%,$(wildcard qtcfg/*.c))
SHIM := $(patsubst %.c,%,$(wildcard libudsproxy/*.c)) common/proxyclient common/proxyreq common/fdpass common/buf
-include rexec/rexec.mk

PROGRAMS := $(B)/bin/udsproxyd $(B)/bin/qtcfg $(REXEC_PROGRAMS)
SHIM_SO := $(B)/lib/libudsproxy.so
objects = $(patsubst %,$(B)/obj/%.o,$(1))

.DEFAULT_GOAL := all
.PHONY: all
all: $(PROGRAMS) $(SHIM_SO) ## build everything (UDS_TEST_MODE=1: plain TCP is allowed)
	@echo $(FLAVOUR) > build/last

$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(ALL_CPPFLAGS) -I$(firstword $(subst /, ,$<)) $(ALL_CFLAGS) -c -o $@ $<

$(B)/libcommon.a: $(call objects,$(COMMON))
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(B)/bin/udsproxyd: $(call objects,$(UDSPROXYD)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lpthread -lsystemd -linih $(LIBS)

$(B)/bin/qtcfg: $(call objects,$(QTCFG)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(SHIM_SO): $(call objects,$(SHIM)) libudsproxy/libudsproxy.map
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -shared -Wl,-soname,libudsproxy.so -Wl,--version-script=libudsproxy/libudsproxy.map \
		$(ALL_LDFLAGS) -Wl,-z,defs -o $@ $(filter %.o,$^) -ldl $(LIBS)

-include $(wildcard $(B)/obj/*/*.d $(B)/obj/*/*/*.d)
-include tests/tests.mk scripts/install.mk scripts/quality.mk

.PHONY: clean help
clean: ## remove build/
	rm -rf build
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | sort | expand -t 16
