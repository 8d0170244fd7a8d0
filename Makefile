# The front door. A target installs the Debian packages that it needs when they are missing, and
# drives CMake's presets; the build tree of a preset is build/<preset>.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := release
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
CUTS ?= 500

configure = cmake --preset $(1) --log-level=WARNING >/dev/null
compile = $(configure) && cmake --build --preset $(1) --parallel $(JOBS)
# One more than there are processors: a third of the time, tests wait.
run_tests = ctest --test-dir build/$(1) --output-on-failure --no-tests=error \
  --parallel $$(($(JOBS) + 1))
# Tests that mount need root; e2e tests and benchmarks are too slow for the sanitizers.
sanitized = -L '^(unit|root)$$'
need_root = [[ $$EUID == 0 ]] || { echo "make $@: needs root, it mounts file systems"; exit 1; } >&2
cxx_files = find src tests bench -name '*.cc' -o -name '*.h'
shell_files = grep -rlE '^\#!.*\bbash' scripts .ci tests bench

.PHONY: release demo test torture test-asan test-tsan lint bench fuzz install clean help

release: ## build bin/veneer in build/release (the default)
	scripts/install-deps build
	$(call compile,release)

demo: release ## show an image loaded, mounted, changed and committed
	scripts/demo

test: ## every test, the clients' included (root)
	$(need_root)
	scripts/install-deps build test
	$(call compile,release)
	tests/support/clients.sh
	$(call run_tests,release)

torture: release ## CUTS (500) power cuts on ext4, and as many on xfs and btrfs (root)
	$(need_root)
	scripts/install-deps test
	VENEER=$(CURDIR)/build/release/bin/veneer CUTS=$(CUTS) \
	  unshare --mount --propagation private tests/e2e/power_cut.sh

test-asan: ## unit and root tests under the address, leak and undefined-behaviour sanitizers (root)
	$(need_root)
	scripts/install-deps build test
	$(call compile,asan)
	ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	  $(call run_tests,asan) $(sanitized)

# Debian's protobuf and gRPC are not built for the thread sanitizer, and its messages are laid out
# otherwise with it.
test-tsan: ## unit and root tests but gRPC's under the thread sanitizer (root)
	$(need_root)
	scripts/install-deps build test
	$(call compile,tsan)
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 \
	  setarch --addr-no-randomize $(call run_tests,tsan) $(sanitized) \
	  --exclude-regex '^(unit|suite)\.rpc'

lint: ## formatting, clang-tidy and shellcheck
	scripts/install-deps build lint
	$(cxx_files) | xargs -r clang-format-19 --dry-run -Werror
	$(shell_files) | xargs -r shellcheck -x
	$(call configure,tidy)
	cmake --build --preset tidy --target veneer_proto_code
	run-clang-tidy-19 -quiet -p build/tidy -j $(JOBS) \
	  '$(CURDIR)/(build/tidy/src/.*/UnifiedSource|(src|tests|bench)/(?!.*_test\.cc))'

bench: release ## side by side with what is installed (root)
	$(need_root)
	scripts/install-deps bench
	bench/peers.sh

fuzz: ## every fuzzer for FUZZ_SECONDS each
	scripts/install-deps build fuzz
	$(call compile,fuzz)
	scripts/fuzz $(FUZZ_SECONDS)

install: release ## the programs, manuals and systemd unit below PREFIX (/usr/local); DESTDIR stages
	install -D -m 0755 -t '$(DESTDIR)$(PREFIX)/bin' build/release/bin/veneer{,d}
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/man/man1' docs/man/*.1
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/man/man8' docs/man/*.8
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/doc/veneer' docs/{containerd,docker}.md
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/lib/systemd/system' contrib/veneerd.service
	install -D -m 0755 -t '$(DESTDIR)$(PREFIX)/share/veneer' contrib/docker-driver-name
	sed -i 's|/usr/local|$(PREFIX)|g' '$(DESTDIR)$(PREFIX)/lib/systemd/system/veneerd.service'

clean: ## removes the build trees, and keeps the clients' root file systems
	find build -mindepth 1 -maxdepth 1 ! -name clients -exec rm -rf {} + 2>/dev/null || true

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## /\1\t/p' Makefile | expand -t 12
