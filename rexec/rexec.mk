# SPDX-License-Identifier: Apache-2.0
# rexec and rexec_server; rexec-qemu where its sources are. rexec links libc only.

REXEC_SHARED := rexec/session rexec/request rexec/relay rexec/flow rexec/loop rexec/locked
REXEC := $(REXEC_SHARED) rexec/rexec rexec/inherit rexec/ownstdio rexec/listen rexec/environ \
	rexec/trampoline
REXEC_SERVER := rexec/rexec_server rexec/keeper rexec/admit rexec/policy rexec/environ \
	rexec/child rexec/outputs rexec/proctree rexec/sessiondir rexec/request rexec/relay \
	rexec/flow rexec/loop
REXEC_QEMU := $(patsubst %.c,%,$(wildcard rexec/qemu/*.c))

REXEC_PROGRAMS := $(B)/bin/rexec $(B)/bin/rexec_server

# These come before the main rules, which define `objects` later: written out.
rexec_objects = $(patsubst %,$(B)/obj/%.o,$(1))

$(B)/bin/rexec: $(call rexec_objects,$(REXEC)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/bin/rexec_server: $(call rexec_objects,$(REXEC_SERVER)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lsystemd $(LIBS)

ifneq ($(REXEC_QEMU),)
REXEC_PROGRAMS += $(B)/libexec/rexec-qemu
$(B)/libexec/rexec-qemu: $(call rexec_objects,$(REXEC_QEMU) $(REXEC_SHARED)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ljson-c $(LIBS)
endif
