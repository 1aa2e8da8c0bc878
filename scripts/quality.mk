# SPDX-License-Identifier: Apache-2.0
#
# What a machine can say about the code without running it, and what the tests reach.

SOURCES = $(sort $(wildcard common/*.[ch] udsproxyd/*.[ch] rexec/*.[ch] rexec/*/*.[ch] libudsproxy/*.[ch] \
	qtcfg/*.[ch] tests/unit/*.[ch] tests/fuzz/*.[ch] tests/behaviour/*.[ch] tests/bench/*.[ch]))
SHELL_SCRIPTS = $(shell grep -lIrE -e '^\#!.*/(ba)?sh( |$$)' -e '^\# shellcheck shell=' scripts tests .ci)
CHECK_FLAGS = -std=c11 $(WARNINGS) -Werror -DVERSION='""' -DSYSCONFDIR='"/etc"'

.PHONY: lint lint-build lint-c lint-tree lint-scripts lint-units lint-man tidy format format-check coverage
lint: ## all that checks the code without running it
	@scripts/install-deps build test lint
	+@$(MAKE) --no-print-directory -k lint-build lint-c lint-tree lint-scripts lint-units lint-man

lint-build:
	+@$(MAKE) --no-print-directory -s FLAVOUR=testmode B=build/lint WERROR=1 programs

lint-c: ## clang's warnings, each header alone, cppcheck
	@CC=$(CC) scripts/check-c $(CHECK_FLAGS)

lint-tree: lint-build
	scripts/check-tree build/lint

lint-scripts: ## shellcheck
	shellcheck -x $(SHELL_SCRIPTS)

# Installed for good, so that the programs are where the units say.
lint-units: PLACE = $(abspath build/lint/installed)
lint-units: lint-build
	@$(MAKE) --no-print-directory -s install FROM=build/lint PREFIX=$(PLACE) SYSCONFDIR=$(PLACE)/etc
	systemd-analyze verify --man=no $(PLACE)/lib/systemd/system/*.service $(PLACE)/lib/systemd/system/*.timer

lint-man:
	$(if $(wildcard docs/*.[178]),mandoc -T lint -W warning $(wildcard docs/*.[178]))

tidy: ## clang-tidy, which finds more and takes longer
	@scripts/check-c --tidy $(CHECK_FLAGS)

format: ## clang-format the code in place
	clang-format -i $(SOURCES)
format-check:
	clang-format --dry-run -Werror $(SOURCES)

# Which lines the unit, wire and behaviour tests run. Programs that end by a signal write no counters.
coverage: ## lines that the tests reach, file by file
	+@$(MAKE) --no-print-directory FLAVOUR=testmode B=build/testmode programs
	@find build/coverage -name '*.gcda' -delete 2>/dev/null || true
	+@$(MAKE) --no-print-directory FLAVOUR=coverage B=build/coverage SHIM_B=build/testmode \
		KINDS="unit wire behaviour" run-tests
	@find build/coverage -name '*.gcda' -exec gcov -n {} + 2>/dev/null | awk -f scripts/coverage.awk | sort -n
