# SPDX-License-Identifier: Apache-2.0
#
# install, uninstall. `make && make install` installs what was built last: build/last names its
# directory; FLAVOUR, UDS_TEST_MODE or B on the command line name another. Nothing is built here,
# so that what was built by a user can be installed by root.

ifneq ($(findstring command line,$(origin B) $(origin FLAVOUR) $(origin UDS_TEST_MODE)),)
FROM := $(B)
else
FROM := build/$(or $(shell cat build/last 2>/dev/null),nothing)
endif

PKGDIR = $(DATADIR)/dpu-offload
D = $(DESTDIR)

# What uninstall removes is what install made; what an operator edits (/etc) stays.
BUILT_BIN = $(patsubst $(B)/%,$(FROM)/%,$(filter $(B)/bin/%,$(PROGRAMS)))
BUILT_LIBEXEC = $(patsubst $(B)/%,$(FROM)/%,$(filter $(B)/libexec/%,$(PROGRAMS)))
INSTALLED_BIN = $(notdir $(BUILT_BIN)) $(INSTALLED_SCRIPTS)
INSTALLED_LIBEXEC = $(notdir $(BUILT_LIBEXEC)) rexec-sftp
INSTALLED_SCRIPTS = virt_start.sh virt_exec.sh virt_umount.sh
INSTALLED_UNITS = $(patsubst systemd/%.in,%,$(wildcard systemd/*.service.in systemd/*.timer.in))
INSTALLED_MAN = $(notdir $(wildcard docs/*.[178]))
man_section = $(MANDIR)/man$(subst .,,$(suffix $(1)))

# Our own places, written into what is text.
PLACES = sed -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@LIBEXECDIR@|$(LIBEXECDIR)|g' \
	-e 's|@PKGDIR@|$(PKGDIR)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g'
# place MODE, SOURCE, TARGET
place = $(PLACES) $(2) > $(D)$(3) && chmod $(1) $(D)$(3)
# The operator's file is not ours to replace.
place_once = if [ ! -e $(D)$(3) ]; then $(place); fi
each = set -e; for f in $(1); do

.PHONY: install uninstall
install: ## install what was built last (DESTDIR, PREFIX, BINDIR, LIBDIR, ...)
	@[ -d $(FROM)/bin ] || { echo "install: nothing is built: run make first" >&2; exit 1; }
	install -d -m 755 $(addprefix $(D),$(BINDIR) $(LIBDIR) $(LIBEXECDIR) $(PKGDIR) $(UNITDIR) $(DOCDIR) \
		$(MANDIR)/man1 $(MANDIR)/man7 $(MANDIR)/man8 $(SYSCONFDIR)/default $(SYSCONFDIR)/rexec \
		$(SYSCONFDIR)/dpu-offload $(SYSCONFDIR)/udsproxyd/udsconnect.d $(SYSCONFDIR)/udsproxyd/udsaccept.d)
	install -m 755 $(BUILT_BIN) $(D)$(BINDIR)/
	install -m 755 $(FROM)/lib/libudsproxy.so $(D)$(LIBDIR)/
	install -m 755 $(BUILT_LIBEXEC) $(D)$(LIBEXECDIR)/
	@$(call place,755,scripts/rexec-sftp,$(LIBEXECDIR)/rexec-sftp)
	@$(call each,$(INSTALLED_SCRIPTS)) $(call place,755,scripts/$$f,$(BINDIR)/$$f); done
	@$(call place,644,scripts/virt_common.sh,$(PKGDIR)/virt_common.sh)
	@$(call each,qemu-kvm virtiofsd) $(call place,755,scripts/$$f,$(PKGDIR)/$$f); done
	@$(call each,$(INSTALLED_UNITS)) $(call place,644,systemd/$$f.in,$(UNITDIR)/$$f); done
	$(if $(INSTALLED_MAN),$(call each,$(INSTALLED_MAN)) install -m 644 docs/$$f $(D)$(MANDIR)/man$${f##*.}/; done)
	install -m 644 README.md LICENSE $(wildcard docs/PROTOCOL.md docs/DESIGN.md docs/what-crosses.md) $(D)$(DOCDIR)/
	@$(call place_once,644,systemd/udsproxyd.default,$(SYSCONFDIR)/default/udsproxyd)
	@$(call place_once,644,systemd/rexec.default,$(SYSCONFDIR)/default/rexec)
	@$(call place_once,644,systemd/udsproxyd.conf,$(SYSCONFDIR)/udsproxyd/udsproxyd.conf)
	@$(call place_once,644,scripts/virt.conf,$(SYSCONFDIR)/dpu-offload/virt.conf)
	@$(call place_once,644,systemd/udsaccept-rexec,$(SYSCONFDIR)/udsproxyd/udsaccept.d/rexec)

uninstall: ## remove what install put there; /etc stays
	rm -f $(addprefix $(D)$(BINDIR)/,$(INSTALLED_BIN)) $(D)$(LIBDIR)/libudsproxy.so \
		$(addprefix $(D)$(LIBEXECDIR)/,$(INSTALLED_LIBEXEC)) \
		$(addprefix $(D)$(UNITDIR)/,$(INSTALLED_UNITS)) \
		$(foreach page,$(INSTALLED_MAN),$(D)$(call man_section,$(page))/$(page))
	rm -rf $(D)$(PKGDIR) $(D)$(DOCDIR)
