# SPDX-License-Identifier: Apache-2.0
#
# How the tests are built and run. All print TAP, and prove(1) runs them (scripts/run-tests):
#
#	tests/unit/test_*.c    one part of the code, in-process (libcheck)
#	tests/wire/            a second implementation of docs/PROTOCOL.md against the real programs
#	tests/behaviour/       the real programs, named by what must hold
#	tests/e2e/             libvirt and virtual machines, a HOST and a DPU
#	tests/long/            what takes longer than `make check` may
#
# tests/bench/ is no test: it measures, beside others, how fast it all is.
#
# Tests find what they test in the environment: BIN, LIB, LIBEXEC (directories), and STAGE, a tree
# made by `make install`.

# ---- unit tests -------------------------------------------------------------------------
# They link with everything but the mains; the linker takes from an archive what a test needs.
# The shim is not in it: it would replace the tests' own connect(2).
MAINS := udsproxyd/main rexec/rexec rexec/rexec_server rexec/qemu/rexec_qemu qtcfg/qtcfg libudsproxy/shim
TESTABLE := $(filter-out $(MAINS),$(patsubst %.c,%,\
	$(wildcard common/*.c udsproxyd/*.c rexec/*.c rexec/*/*.c qtcfg/*.c libudsproxy/*.c)))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))

$(B)/libtest.a: $(call objects,$(TESTABLE))
	@rm -f $@
	$(call say,AR,$@)$(AR) rcsP $@ $^ # P: udsproxyd/session.o and rexec/session.o are two

# A header whose name two programs use is included as "udsproxyd/session.h".
$(B)/obj/tests/%.o: ALL_CPPFLAGS += -I. -Iudsproxyd -Irexec -Irexec/qemu -Iqtcfg -Ilibudsproxy
$(B)/tests/%: $(B)/obj/tests/unit/%.o $(B)/libtest.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $$(pkg-config --libs check) -lpthread -lsystemd -linih -ljson-c -lcrypto $(LIBS)
.SECONDARY: $(patsubst $(B)/tests/%,$(B)/obj/tests/unit/%.o,$(UNIT_TESTS))

# ---- running them -----------------------------------------------------------------------
executables = $(sort $(shell find $(1) -maxdepth 1 -type f -perm -u+x 2>/dev/null))
TESTS_unit = $(UNIT_TESTS)
TESTS_shim = $(wildcard scripts/check-symbols.sh)
TESTS_wire = $(call executables,tests/wire)
TESTS_behaviour = $(call executables,tests/behaviour)
TESTS_matrix = tests/behaviour/matrix
TESTS_e2e = $(filter %.sh,$(call executables,tests/e2e))
TESTS_long = $(call executables,tests/long)

# The shim lives in programs that know nothing of sanitizers: it is never a sanitizers' build.
SHIM_B ?= $(B)

# The product as `make install` makes it, for those tests that run it in a place of its own.
.PHONY: programs stage guest run-tests
programs: $(PROGRAMS) $(SHIM_B)/lib/libudsproxy.so
stage: programs
	@rm -rf $(B)/stage
	@$(MAKE) --no-print-directory -s install FROM=$(B) DESTDIR=$(abspath $(B))/stage

# The guests' kernel, downloaded before a test has no network any more.
guest:
	@bash -euc '. tests/rig/guestlib.sh; find_kernel'

# What each kind of test needs.
NEEDS_unit = $(UNIT_TESTS)
NEEDS_shim = programs
NEEDS_wire = programs
NEEDS_behaviour = programs guest
NEEDS_matrix = $(B)/bin/udsproxyd
NEEDS_e2e = programs guest stage
NEEDS_long = programs guest stage bench-programs $(B)/tests/test_simulation

# run-tests KINDS="unit wire ...": of this FLAVOUR; made by the targets below.
run-tests: $(foreach kind,$(KINDS),$(NEEDS_$(kind)))
	@BIN=$(abspath $(B))/bin LIBEXEC=$(abspath $(B))/libexec LIB=$(abspath $(SHIM_B))/lib \
	STAGE=$(abspath $(B))/stage BENCH=$(abspath $(B))/bench FLAVOUR=$(FLAVOUR) $(TESTS_WRAPPER) \
		scripts/run-tests $(B)/results $(foreach kind,$(KINDS),$(TESTS_$(kind)))

run = +@$(MAKE) --no-print-directory FLAVOUR=$(1) KINDS="$(2)" run-tests
# Sanitizers' builds need their own directory and the plain shim of another.
run_sanitized = +@$(MAKE) --no-print-directory FLAVOUR=testmode B=build/testmode programs && \
	$(MAKE) --no-print-directory FLAVOUR=$(1) B=build/$(1) SHIM_B=build/testmode KINDS="$(2)" run-tests

.PHONY: deps check check-unit check-behaviour check-long matrix e2e demo asan tsan
deps: ## install the packages that building and testing need (apt, as root)
	@scripts/install-deps build test
check: deps ## every test but the long ones; from a fresh clone on a bare Debian
	$(call run,testmode,unit shim wire behaviour e2e)
	$(call run_sanitized,asan,matrix)
check-unit: ## the unit tests alone: seconds
	$(call run,testmode,unit)
check-behaviour: ## the tests that run the real programs, without virtual machines
	$(call run,testmode,shim wire behaviour)
matrix: ## tables of what holds over UNIX sockets and of programs, here and through the proxy both ways (as root)
	+@$(MAKE) --no-print-directory FLAVOUR=testmode programs
	@export BIN=$(abspath build/testmode)/bin LIB=$(abspath build/testmode)/lib && \
		tests/behaviour/matrix --table && tests/behaviour/real-programs --table && \
		tests/behaviour/rexec-matrix --table
e2e: deps ## libvirt and virtual machines, directly and in the chroot (as root)
	$(call run,testmode,e2e)
check-long: ## what takes longer than `make check` may
	@scripts/install-deps build test long bench
	$(call run,testmode,long) TEST_TIMEOUT=7200
demo: deps ## a HOST and a DPU on this machine, and a virtual machine (as root; KEEP=1 leaves them up)
	+@$(MAKE) --no-print-directory FLAVOUR=testmode stage
	@STAGE=$(abspath $(if $(filter command line,$(origin B)),$(B),build/testmode))/stage tests/e2e/demo
asan: ## unit, wire and behaviour tests with AddressSanitizer, LeakSanitizer, UBSan
	$(call run_sanitized,asan,unit wire behaviour)
# ThreadSanitizer of GCC 12 does not know the addresses that newer kernels choose at random.
tsan: ## the same with ThreadSanitizer
	$(call run_sanitized,tsan,unit wire behaviour) TESTS_WRAPPER="setarch --addr-no-randomize"

# ---- fuzzing ---------------------------------------------------------------------------------
# A harness feeds what calls itself pure (docs/HACKING.md). libFuzzer is clang's.
.PHONY: fuzz fuzz-programs
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 60
$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/libtest.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
.SECONDARY: $(patsubst $(B)/fuzz/%,$(B)/obj/tests/fuzz/%.o,$(FUZZERS))
fuzz-programs: $(FUZZERS)
fuzz: ## parsers and the stream against libFuzzer (FUZZ_SECONDS=60 each)
	@scripts/install-deps build fuzz
	+@$(MAKE) --no-print-directory -s FLAVOUR=fuzz CC=clang fuzz-programs
	@scripts/fuzz build/fuzz $(FUZZ_SECONDS)

# ---- how fast --------------------------------------------------------------------------------
# QUICK=1: one short round. RECORD=1: also what the README shows. BENCH_FLAGS: tests/bench/bench --help.
.PHONY: bench bench-rexec bench-programs
$(B)/bench/measure: $(call objects,tests/bench/measure tests/bench/serve tests/bench/stream)
$(B)/bench/launch: $(call objects,tests/bench/launch tests/bench/stream)
$(B)/bench/bare-relay: $(call objects,tests/bench/bare_relay tests/bench/stream)
$(B)/bench/%:
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lpthread $(LIBS)
bench-programs: programs $(B)/bench/measure $(B)/bench/launch $(B)/bench/bare-relay
run_bench = BIN=$(abspath $(B))/bin LIB=$(abspath $(B))/lib BENCH=$(abspath $(B))/bench \
	tests/bench/$(1) $(if $(filter 1,$(QUICK)),--quick) \
	$(if $(filter 1,$(RECORD)),--csv docs/figures/$(1).csv --svg docs/figures/$(1).svg) $(BENCH_FLAGS)
bench: ## how fast connections are, beside other relays (as root; QUICK=1, RECORD=1, BENCH_FLAGS=)
	@scripts/install-deps build bench
	+@$(MAKE) --no-print-directory -s bench-programs
	@$(call run_bench,bench)
bench-rexec: ## what a start on the HOST costs, beside ssh and dropbear (the same)
	@scripts/install-deps build bench
	+@$(MAKE) --no-print-directory -s bench-programs
	@$(call run_bench,bench-rexec)
