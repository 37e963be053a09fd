# libswitchover. `make help` says what can be asked for.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# --- Settings ------------------------------------------------------------------------------------

# The version lives in the header; everything else derives from it.
version_part = $(shell sed -n 's/^\#define SWO_VERSION_$(1) //p' include/switchover.h)
VERSION := $(call version_part,MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)
# The binary interface: goes up with every incompatible change.
SONAME := libswitchover.so.0

DESTDIR ?=
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DOCDIR ?= $(PREFIX)/share/doc/libswitchover
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
INSTALL ?= install
# More words for `swift build`, such as those that a distribution hardens with.
SWIFT_FLAGS ?=

# Runs only the tests whose name matches: make unit SWO_TEST_FILTER=greeting
SWO_TEST_FILTER ?=
# The seconds that each part of `make check` may take on two loaded cores; the closing table tells.
BUDGET_build := 360
BUDGET_lint := 60
BUDGET_tidy := 60
BUDGET_unit := 180
BUDGET_sim := 60
BUDGET_worlds := 180
BUDGET_qemu := 650
BUDGET_c := 200
BUDGET_packaging := 60
BUDGET_packages := 420
BUDGET_perl := 260
BUDGET_perl-taint := 180

# Each kind of build keeps its files apart: .build (tests), .build-release, .build-tools, .build-asan,
# .build-tsan.
RELEASE := .build-release
OUT := $(RELEASE)/out

# The Swift runtime travels inside the library; lld writes RELRO. The last five lines make the build
# independent of the directory that it happens in, and of chance: Swift 6.3's own unrolling of loops
# orders the values that leave a loop by their addresses in the compiler. LLVM unrolls loops anyway.
RELEASE_FLAGS := -c release --scratch-path $(RELEASE) --disable-local-rpath \
  -Xswiftc -static-stdlib -Xswiftc -use-ld=lld \
  -Xswiftc -file-prefix-map -Xswiftc $(CURDIR)=. \
  -Xcc -ffile-prefix-map=$(CURDIR)=. \
  -Xswiftc -Xfrontend -Xswiftc -disable-incremental-llvm-codegen \
  -Xswiftc -Xfrontend -Xswiftc -no-clang-module-breadcrumbs \
  -Xswiftc -Xllvm -Xswiftc -sil-disable-pass=loop-unroll $(SWIFT_FLAGS)
HARDENING := $(foreach word,relro now,-Xlinker -z -Xlinker $(word))
# Only swo_* is visible, and the Swift runtime cannot be unloaded from a process that has run it.
LIBRARY_FLAGS := $(HARDENING) -Xlinker -z -Xlinker nodelete -Xlinker -z -Xlinker defs \
  -Xlinker -soname=$(SONAME) -Xlinker --version-script=packaging/libswitchover.map

# --- Everyday ------------------------------------------------------------------------------------

.PHONY: help
help: ## This list
	@echo "libswitchover $(VERSION)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: deps
deps: ## Install what is missing to build and test (apt-get; asks for sudo unless root)
	packaging/scripts/install-dependencies
	@for place in .build $(RELEASE) .build-tools; do swift package --scratch-path $$place resolve; done

.PHONY: build
build: library command pages ## Build the release library and command line into .build-release/out

.PHONY: library
library:
	@echo "building libswitchover.so $(VERSION)"
	@swift build $(RELEASE_FLAGS) --product switchover $(LIBRARY_FLAGS)
	@mkdir -p $(OUT)/lib
	cp $(RELEASE)/release/libswitchover.so $(OUT)/lib/libswitchover.so.$(VERSION)
	ln -sf libswitchover.so.$(VERSION) $(OUT)/lib/$(SONAME)
	ln -sf $(SONAME) $(OUT)/lib/libswitchover.so

# The command line is linked to the library of the step before, never to a second copy of the core.
.PHONY: command
command: library
	@echo "building the command line"
	@SWO_SHARED=1 swift build $(RELEASE_FLAGS) --product switchover-cli $(HARDENING) \
	  -Xlinker -L$(OUT)/lib
	@mkdir -p $(OUT)/bin
	cp $(RELEASE)/release/switchover-cli $(OUT)/bin/switchover

# Manual pages and completion come from the header and from the program's own help.
.PHONY: pages
pages: command
	@rm -rf $(OUT)/man $(OUT)/completions
	@mkdir -p $(OUT)/man/man1 $(OUT)/man/man3 $(OUT)/man/man8 $(OUT)/completions
	LD_LIBRARY_PATH=$(OUT)/lib packaging/scripts/command-page $(OUT)/bin/switchover \
	  include/switchover.h >$(OUT)/man/man1/switchover.1
	packaging/scripts/function-pages include/switchover.h $(OUT)/man/man3
	packaging/scripts/overview-page packaging/man/libswitchover.3.in include/switchover.h \
	  >$(OUT)/man/man3/libswitchover.3
	LD_LIBRARY_PATH=$(OUT)/lib packaging/scripts/recover-page packaging/man/switchover-recover.8.in \
	  include/switchover.h $(OUT)/bin/switchover >$(OUT)/man/man8/switchover-recover.8
	LD_LIBRARY_PATH=$(OUT)/lib $(OUT)/bin/switchover --generate-completion-script bash | \
	  sed '1{/^#!/d}' >$(OUT)/completions/switchover

.PHONY: demo
demo: ## Install what is missing, then migrate a guest there and back and show its blackout
	@SWO_CLEAN_ROOT=no $(MAKE) deps
	@$(MAKE) build
	@LD_LIBRARY_PATH=$(OUT)/lib $(OUT)/bin/switchover demo

# The Perl module is built beside its sources, against the library where it was just built.
PERL_BUILD := .build-perl

.PHONY: perl-module
perl-module: library ## Build the Perl module into .build-perl
	@mkdir -p $(PERL_BUILD)
	cp -a bindings/perl/Makefile.PL bindings/perl/typemap bindings/perl/Switchover.xs \
	  bindings/perl/lib $(PERL_BUILD)
	$(call pkg_config,$(CURDIR),$(CURDIR)/$(OUT)/lib,$(CURDIR)/include) \
	  > $(PERL_BUILD)/libswitchover.pc
	cd $(PERL_BUILD) && PKG_CONFIG_PATH=. perl Makefile.PL OPTIMIZE='-O2 -Wall -Werror' && $(MAKE)

# The pkg-config file: prefix, folder of the library, folder of the header.
pkg_config = sed -e 's|@PREFIX@|$(1)|' -e 's|@LIBDIR@|$(2)|' -e 's|@INCLUDEDIR@|$(3)|' \
  -e 's|@VERSION@|$(VERSION)|' packaging/libswitchover.pc.in

.PHONY: install
install: ## Install what was built: DESTDIR= PREFIX= BINDIR= LIBDIR= INCLUDEDIR= DOCDIR= MANDIR=
	@test -e $(OUT)/lib/$(SONAME) -a -e $(OUT)/bin/switchover || \
	  { echo "nothing is built yet: run 'make build' first" >&2; exit 1; }
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) \
	  $(DESTDIR)$(DOCDIR)/examples $(addprefix $(DESTDIR)$(MANDIR)/,man1 man3 man8) \
	  $(DESTDIR)$(COMPLETIONDIR) $(DESTDIR)$(UNITDIR)
	$(INSTALL) -m 755 $(OUT)/bin/switchover $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 $(OUT)/lib/libswitchover.so.$(VERSION) $(DESTDIR)$(LIBDIR)
	ln -sf libswitchover.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libswitchover.so
	$(INSTALL) -m 644 include/switchover.h $(DESTDIR)$(INCLUDEDIR)
	$(call pkg_config,$(PREFIX),$(LIBDIR),$(INCLUDEDIR)) \
	  > $(DESTDIR)$(LIBDIR)/pkgconfig/libswitchover.pc
	$(INSTALL) -m 644 $(wildcard bindings/c/examples/*.c) $(DESTDIR)$(DOCDIR)/examples
	$(INSTALL) -m 644 $(OUT)/man/man1/*.1 $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 $(OUT)/man/man3/*.3 $(DESTDIR)$(MANDIR)/man3
	$(INSTALL) -m 644 $(OUT)/man/man8/*.8 $(DESTDIR)$(MANDIR)/man8
	sed 's|@BINDIR@|$(BINDIR)|' packaging/switchover-report.service.in \
	  >$(DESTDIR)$(UNITDIR)/switchover-report.service
	$(INSTALL) -m 644 $(OUT)/completions/switchover $(DESTDIR)$(COMPLETIONDIR)

.PHONY: clean
clean: ## Delete everything that was built
	rm -rf .build .build-* out

# --- Tests ---------------------------------------------------------------------------------------

# One part of `make check`: name, then kind (see the script), then what to run.
group = Tests/Support/run-group $(1) $(BUDGET_$(1))

# `unit` is whatever no other part runs, so that no test is forgotten.
TIDY_TESTS := TidyTests
QEMU_TESTS := QEMUHarnessTests|QEMUTests|SimulationQEMUTests|StorageTests|CLIRunTests
# Those of QEMUTests that run beside the rest of it, with the other targets.
TUNNEL_TESTS := QEMUTests\.RealQEMUs/Tunnel
C_TESTS := ABITests
SIM_TESTS := SimulationTests
OTHER_THAN_UNIT := $(TIDY_TESTS)|$(SIM_TESTS)|$(QEMU_TESTS)|$(C_TESTS)
swift_test = swift test --skip-build --disable-xctest --no-parallel
only = --filter '^($(1))\..*$(SWO_TEST_FILTER)'

PARTS := lint tidy unit sim worlds qemu c packaging perl perl-taint packages

.PHONY: test
test: ## Install what is missing, then check
	@$(MAKE) deps
	@$(MAKE) check

.PHONY: check
check: ## Every test, without installing anything or using the network
	@rm -rf .build/parts
	@$(call group,build) step $(MAKE) build build-tests
	@failed=0; for part in $(PARTS); do $(MAKE) $$part || failed=1; done; \
	  Tests/Support/print-summary build $(PARTS) || failed=1; exit $$failed

.PHONY: build-tests
build-tests:
	swift build --build-tests

.PHONY: lint
lint: ## Formatter differences
	@$(call group,lint) step swift format lint --strict --recursive Sources Tests Package.swift

.PHONY: tidy
tidy: build-tests ## Rules of this project's style that a machine can check
	@$(call group,tidy) swift $(swift_test) $(call only,$(TIDY_TESTS))

.PHONY: unit
unit: build-tests ## Every module by itself
	@$(call group,unit) swift $(swift_test) --filter '$(or $(SWO_TEST_FILTER),.)' \
	  --skip '^($(OTHER_THAN_UNIT))\.'

.PHONY: sim
sim: build-tests ## The simulated world itself
	@$(call group,sim) swift $(swift_test) $(call only,$(SIM_TESTS))

# Release-built, for it is the number of worlds that counts.
SIMULATION := .build-tools/release/switchover-sim

.PHONY: simulation
simulation:
	@swift build -c release --scratch-path .build-tools --product switchover-sim

.PHONY: worlds
worlds: simulation ## Simulated worlds with faults: what once failed, and new ones with every commit
	@$(call group,worlds) tap Tests/Simulation/check-worlds

.PHONY: mutations
mutations: ## Planted bugs, each of which the simulation must find
	@test -d .build-tools/checkouts || swift package --scratch-path .build-tools resolve
	Tests/Simulation/check-mutations

# In two halves of about the same length, side by side: these tests wait more than they work.
.PHONY: qemu
qemu: build-tests ## Pairs of real QEMUs
	@$(call group,qemu) swift \
	  $(swift_test) --ignore-lock $(call only,QEMUTests) --skip '^$(TUNNEL_TESTS)' ++ \
	  $(swift_test) --ignore-lock --filter \
	    '^(($(subst |QEMUTests,,$(QEMU_TESTS)))\.|$(TUNNEL_TESTS)).*$(SWO_TEST_FILTER)'

.PHONY: c
c: build build-tests ## C programs and the built library, as others meet it
	@$(call group,c) swift $(swift_test) $(call only,$(C_TESTS))

# The tests that need a whole stack run it under taint mode themselves. What the stack does without the
# drop-in is looked at by stack-drop-in.t too; most of its own tests are for `make long`.
PERL_TESTS := $(wildcard bindings/perl/t/*.t)
PERL_LONG_TESTS := $(addprefix bindings/perl/t/stack-,daemon.t dirty.t disk.t guest.t idle.t \
  tunnel.t)
prove = prove -v $(1) -I$(PERL_BUILD)/blib/lib -I$(PERL_BUILD)/blib/arch -Ibindings/perl/t/lib \
  -Ibindings/perl/t/stack/lib

.PHONY: perl
perl: perl-module ## The Perl module, and the stack that it is tested in
	@$(call group,perl) tap $(call prove,) $(filter-out $(PERL_LONG_TESTS),$(PERL_TESTS))

.PHONY: perl-taint
perl-taint: perl-module ## The Perl module under taint mode
	@$(call group,perl-taint) tap $(call prove,-T) $(filter-out %/valgrind.t,$(filter-out \
	  bindings/perl/t/stack-%,$(PERL_TESTS)))

.PHONY: packaging
packaging: build ## What is built, its manual pages, its lists of symbols and its history agree
	@$(call group,packaging) tap prove --verbose Tests/Packaging

.PHONY: packages
packages: ## The commit's Debian packages, built offline and tested in a clean root (root)
	@$(call group,packages) tap $(MAKE) deb deb-test

.PHONY: abi-check
abi-check: library ## The binary interface against packaging/abi; ABI_RECORD=1 notes what is new
	packaging/scripts/abi-check $(if $(ABI_RECORD),--record) $(OUT)/lib/$(SONAME)

# --- Packages ------------------------------------------------------------------------------------

# Debian and what the tests of packages need from it, made by `make deps`.
CLEAN_ROOT := .deps/clean-root.tar

.PHONY: dist
dist: ## Source archives of the commit: out/libswitchover_VERSION.orig.tar.gz, -vendor: what it needs
	packaging/scripts/make-dist $(VERSION) out

.PHONY: deb
deb: dist ## Debian packages, checked by lintian, in out/
	packaging/scripts/make-deb $(VERSION) out

.PHONY: deb-test
deb-test: ## The packages of `make deb` in a clean root without Swift or network (root)
	packaging/scripts/test-deb out $(CLEAN_ROOT)

.PHONY: deb-twice
deb-twice: dist ## The packages built in two places, which must be the same bytes
	packaging/scripts/compare-builds $(VERSION) out

# --- Slower ways ---------------------------------------------------------------------------------

# How much a campaign tries: worlds for the simulation, seconds for the fuzzer.
LONG_SEEDS ?= 1..1000000
LONG_SECONDS ?= 1800
JOBS := $(shell nproc)

.PHONY: long
long: build-tests perl-module simulation ## Campaigns: worlds (LONG_SEEDS=FIRST..LAST), all of QEMU and Perl, the fuzzer (LONG_SECONDS=)
	$(SIMULATION) --seeds $(LONG_SEEDS) --jobs $(JOBS)
	$(SIMULATION) --explore 1 --jobs $(JOBS)
	$(SIMULATION) --explore 2 --jobs $(JOBS)
	$(MAKE) mutations
	SWO_LONG=1 swift $(swift_test) $(call only,$(QEMU_TESTS))
	SWO_LONG=1 $(call prove,) $(PERL_TESTS)
	Tests/Fuzz/run $(LONG_SECONDS)

# BENCH=stack is the guest's gap inside the Perl stack, without and with the drop-in.
.PHONY: bench
ifeq ($(firstword $(BENCH)),stack)
bench: perl-module
	bindings/perl/t/stack/bench.pl --drop-in $(PERL_BUILD)/blib $(wordlist 2,99,$(BENCH))
else
bench: ## Figures beside those of other ways in the same run; BENCH= chooses (see its source)
	swift build -c release --scratch-path .build-tools --product switchover-bench
	.build-tools/release/switchover-bench $(BENCH)
endif

# The whole suite but what measures time, or starts a library that is not the sanitized one.
SANITIZED_NOT := TidyTests|$(C_TESTS)

.PHONY: asan
asan: ## The tests with the address sanitizer, real QEMUs included
	LSAN_OPTIONS=suppressions=$(CURDIR)/Tests/Support/leaks.supp \
	  swift test --sanitize=address --scratch-path .build-asan --disable-xctest --no-parallel \
	  --filter '$(or $(SWO_TEST_FILTER),.)' --skip '^($(SANITIZED_NOT))\.'

.PHONY: tsan
tsan: ## The same with the thread sanitizer
	swift test --sanitize=thread --scratch-path .build-tsan --disable-xctest --no-parallel \
	  --filter '$(or $(SWO_TEST_FILTER),.)' --skip '^($(SANITIZED_NOT))\.'

.PHONY: ssh-newer
ssh-newer: build-tests ## The ssh tests with the libssh2 of Debian 13, which apt fetches the first time
	Tests/Support/with-newer-libssh2 $(swift_test) --filter '^SSHTests\.'

.PHONY: format
format: ## Format the Swift sources
	swift format --in-place --recursive Sources Tests Package.swift
