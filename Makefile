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
INSTALL ?= install

# Runs only the tests whose name matches: make unit SWO_TEST_FILTER=greeting
SWO_TEST_FILTER ?=
# The seconds that each part of `make check` may take on two loaded cores; the closing table tells.
BUDGET_build := 360
BUDGET_lint := 60
BUDGET_tidy := 60
BUDGET_unit := 180
BUDGET_qemu := 900

# Each kind of build keeps its files apart: .build (tests), .build-release, .build-asan, .build-tsan.
RELEASE := .build-release
OUT := $(RELEASE)/out

# The Swift runtime travels inside the library; lld writes RELRO. The last four lines make the build
# independent of the directory that it happens in.
RELEASE_FLAGS := -c release --scratch-path $(RELEASE) --disable-local-rpath \
  -Xswiftc -static-stdlib -Xswiftc -use-ld=lld \
  -Xswiftc -file-prefix-map -Xswiftc $(CURDIR)=. \
  -Xcc -ffile-prefix-map=$(CURDIR)=. \
  -Xswiftc -Xfrontend -Xswiftc -disable-incremental-llvm-codegen \
  -Xswiftc -Xfrontend -Xswiftc -no-clang-module-breadcrumbs
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
	@for place in .build $(RELEASE); do swift package --scratch-path $$place resolve; done

.PHONY: build
build: library command ## Build the release library and command line into .build-release/out

.PHONY: library
library:
	swift build $(RELEASE_FLAGS) --product switchover $(LIBRARY_FLAGS)
	@mkdir -p $(OUT)/lib
	cp $(RELEASE)/release/libswitchover.so $(OUT)/lib/libswitchover.so.$(VERSION)
	ln -sf libswitchover.so.$(VERSION) $(OUT)/lib/$(SONAME)
	ln -sf $(SONAME) $(OUT)/lib/libswitchover.so

# The command line is linked to the library of the step before, never to a second copy of the core.
.PHONY: command
command: library
	SWO_SHARED=1 swift build $(RELEASE_FLAGS) --product switchover-cli $(HARDENING) \
	  -Xlinker -L$(OUT)/lib
	@mkdir -p $(OUT)/bin
	cp $(RELEASE)/release/switchover-cli $(OUT)/bin/switchover

.PHONY: demo
demo: build ## Watch a guest move between two real QEMUs, there and back
	@LD_LIBRARY_PATH=$(OUT)/lib $(OUT)/bin/switchover demo

.PHONY: install
install: ## Install what was built: DESTDIR= PREFIX= BINDIR= LIBDIR= INCLUDEDIR= DOCDIR=
	@test -e $(OUT)/lib/$(SONAME) -a -e $(OUT)/bin/switchover || \
	  { echo "nothing is built yet: run 'make build' first" >&2; exit 1; }
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) \
	  $(DESTDIR)$(DOCDIR)/examples
	$(INSTALL) -m 755 $(OUT)/bin/switchover $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 $(OUT)/lib/libswitchover.so.$(VERSION) $(DESTDIR)$(LIBDIR)
	ln -sf libswitchover.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libswitchover.so
	$(INSTALL) -m 644 include/switchover.h $(DESTDIR)$(INCLUDEDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	  -e 's|@VERSION@|$(VERSION)|' packaging/libswitchover.pc.in \
	  > $(DESTDIR)$(LIBDIR)/pkgconfig/libswitchover.pc
	$(INSTALL) -m 644 $(wildcard bindings/c/examples/*.c) $(DESTDIR)$(DOCDIR)/examples

.PHONY: clean
clean: ## Delete everything that was built
	rm -rf .build .build-*

# --- Tests ---------------------------------------------------------------------------------------

# One part of `make check`: name, then kind (see the script), then what to run.
group = Tests/Support/run-group $(1) $(BUDGET_$(1))

# `unit` is whatever no other part runs, so that no test is forgotten.
TIDY_TESTS := TidyTests
QEMU_TESTS := QEMUHarnessTests|QEMUTests|CLIRunTests
OTHER_THAN_UNIT := $(TIDY_TESTS)|$(QEMU_TESTS)
swift_test = swift test --skip-build --disable-xctest --no-parallel
only = --filter '^($(1))\..*$(SWO_TEST_FILTER)'

PARTS := lint tidy unit qemu

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

.PHONY: qemu
qemu: build-tests ## Pairs of real QEMUs
	@$(call group,qemu) swift $(swift_test) $(call only,$(QEMU_TESTS))

# --- Slower ways to run the same tests -----------------------------------------------------------

.PHONY: asan
asan: ## The unit tests with the address sanitizer
	swift test --sanitize=address --scratch-path .build-asan --disable-xctest --no-parallel \
	  --filter '$(or $(SWO_TEST_FILTER),.)' --skip '^($(OTHER_THAN_UNIT))\.'

.PHONY: tsan
tsan: ## The unit tests with the thread sanitizer
	swift test --sanitize=thread --scratch-path .build-tsan --disable-xctest --no-parallel \
	  --filter '$(or $(SWO_TEST_FILTER),.)' --skip '^($(OTHER_THAN_UNIT))\.'

.PHONY: format
format: ## Format the Swift sources
	swift format --in-place --recursive Sources Tests Package.swift
