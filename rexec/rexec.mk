# SPDX-License-Identifier: Apache-2.0
# rexec and rexec_server; rexec-qemu where its sources are. rexec links libc only, and that into
# itself where there is a libc.a (libc6-dev has it, glibc-static elsewhere): a program that is
# started as often as it is needs no loader for 50 KiB of code. REXEC_STATIC= links as usual.

REXEC_SHARED := $(addprefix rexec/,session offsets request relay flow loop locked)
REXEC := $(REXEC_SHARED) $(addprefix rexec/,rexec options manage inherit ownstdio owntty listen environ \
	trampoline)
REXEC_SERVER := $(addprefix rexec/,rexec_server keeper keeper_client keeper_door roster admit policy listcheck trust \
	pin environ child \
	control pty outputs offsets proctree sessiondir request relay flow loop)
REXEC_QEMU := $(patsubst %.c,%,$(wildcard rexec/qemu/*.c))

REXEC_PROGRAMS := $(B)/bin/rexec $(B)/bin/rexec_server

# These come before the main rules, which define `objects` later: written out.
rexec_objects = $(patsubst %,$(B)/obj/%.o,$(1))

compiler_has = $(filter /%,$(shell $(CC) -print-file-name=$(1)))
REXEC_STATIC ?= $(if $(and $(filter plain testmode,$(FLAVOUR)),$(call compiler_has,libc.a),$(call compiler_has,rcrt1.o)),-static-pie)

$(B)/bin/rexec: $(call rexec_objects,$(REXEC)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(REXEC_STATIC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/bin/rexec_server: $(call rexec_objects,$(REXEC_SERVER)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lsystemd -lcrypto $(LIBS)

ifneq ($(REXEC_QEMU),)
REXEC_PROGRAMS += $(B)/libexec/rexec-qemu
$(B)/libexec/rexec-qemu: $(call rexec_objects,$(REXEC_QEMU) $(REXEC_SHARED)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ljson-c $(LIBS)
endif
