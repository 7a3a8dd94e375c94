# bridgeward. `make help` lists the targets.

CARGO  ?= cargo
PREFIX ?= /usr
BINARY ?= target/release/bridgeward
# A BINARY that is named is taken as it is.
BUILT := $(if $(filter target/release/bridgeward,$(BINARY)),build)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# For the release tarball and the RPM: with libpcap in it, whose shared library has other names elsewhere.
PORTABLE := target/portable/release/bridgeward
RELEASE := bridgeward-$(VERSION)-$(shell uname -m)-linux

ADVISORIES := https://github.com/rustsec/advisory-db

# A page that cannot be printed is no empty page.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build test bench nightly beside-libvirt fuzz soak demo repair-times learning-crowd lint deny install guide deb testdeb portable rpm dist clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the program (target/release/bridgeward); needs libpcap's headers (installs them on Debian as root).
	contrib/build-tools.sh
	$(CARGO) build --locked --release

test: ## Install what the tests lack (Debian), and run all of them; needs root and a kernel with network namespaces.
	reconcile-tests/install-tools.sh
	$(CARGO) test --locked

nightly: ## The laws with 10,000 cases each, 300 kills, 1,000 passes beside another writer, and the cost of every hostile file; hours, with other random choices every time.
	reconcile-tests/install-tools.sh
	BRIDGEWARD_NIGHTLY=1 PROPTEST_RNG_SEED=$$(date +%s) $(CARGO) test --locked --release --test reconcile -- laws plan_real kill_anywhere other_writer faults neighbours hostile
	nice $(CARGO) bench --locked --bench hostile

beside-libvirt: ## Ten minutes of mixed use beside a real libvirtd (BRIDGEWARD_BESIDE_SECONDS): virsh, flushes by hand, restarts; other random choices every time.
	reconcile-tests/install-tools.sh
	BRIDGEWARD_BESIDE_SECONDS=$${BRIDGEWARD_BESIDE_SECONDS:-600} PROPTEST_RNG_SEED=$${PROPTEST_RNG_SEED:-$$(date +%s)} $(CARGO) test --locked --test reconcile -- --nocapture virsh_flushes

fuzz: ## Fuzz every reader of foreign text for 20 minutes each (FUZZ_SECONDS); needs cargo-fuzz.
	for target in $$($(CARGO) fuzz list); do \
	  nice $(CARGO) fuzz run -s none $$target -- -max_total_time=$${FUZZ_SECONDS:-1200} -timeout=10 || exit; \
	done

soak: ## Everything at once for an hour (SOAK_SECONDS): edits, flushes, fights, taps and restarts at 200 guests; memory and descriptors have to stay level; root.
	nice $(CARGO) bench --locked --bench soak

demo: ## Show it at work in a throwaway network namespace: diff, apply, a flush by hand, the repair.
	contrib/demo.sh

repair-times: ## Measure how long it takes until flushed and edited rules are back, and fight for two minutes; about ten minutes, root.
	$(CARGO) bench --locked --bench repair-times

bench: build ## Measure it beside the raw tools, half an hour and more; needs root and python3. Table, JSON and plot in target/bench; BENCH="--readme README.md" writes the summary there.
	contrib/bench/bench.py $(BENCH)

learning-crowd: ## Measure what 500 guests that learn cost, and what one of them that floods does to the others; minutes, root.
	$(CARGO) bench --locked --bench learning-crowd

lint: ## Check formatting and lints; warnings are errors.
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

deny: ## Judge licences, sources and duplicates of all dependencies (cargo-deny), and advisories where their database can be reached.
	$(CARGO) deny --locked check licenses bans sources
	if timeout 30 git ls-remote $(ADVISORIES) HEAD >/dev/null 2>&1; then $(CARGO) deny --locked check advisories; \
	else echo 'advisories: NOT judged, for $(ADVISORIES) cannot be reached' >&2; fi

install: $(BUILT) ## Install program, unit, man pages, completions, schemas and example below DESTDIR (PREFIX=/usr).
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/bridgeward
	install -D -m 0644 contrib/systemd/bridgeward.service $(DESTDIR)$(PREFIX)/lib/systemd/system/bridgeward.service
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/bridgeward contrib/prometheus/bridgeward.rules.yml contrib/grafana/bridgeward.json contrib/networkd/50-bridgeward.conf
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/share/doc/bridgeward/libvirt-hooks contrib/libvirt/hooks/network contrib/libvirt/hooks/qemu
	install -D -m 0755 contrib/ifupdown/bridgeward $(DESTDIR)$(PREFIX)/share/doc/bridgeward/ifupdown/bridgeward
	test -e $(DESTDIR)/etc/bridgeward/bridgeward.toml || install -D -m 0644 contrib/bridgeward.toml $(DESTDIR)/etc/bridgeward/bridgeward.toml
	for file in networks filters guests; do \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/bridgeward/state/$$file state/$$file/*.xml || exit; \
	done
	install -d -m 0755 $(DESTDIR)/etc/bridgeward/state/{networks,filters,guests}
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/bridgeward/schemas schemas/*.rng schemas/*.rnc
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/bridgeward README.md SECURITY.md
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/bridgeward/docs docs/*.md docs/*.svg
	$(BINARY) man | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/man/man8/bridgeward.8
	$(BINARY) man bridgeward-state | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/man/man5/bridgeward-state.5
	$(BINARY) man bridgeward.toml | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/man/man5/bridgeward.toml.5
	$(BINARY) completions bash | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bridgeward
	$(BINARY) completions zsh | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_bridgeward
	$(BINARY) completions fish | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/bridgeward.fish

guide: ## Build the guide as a book (target/guide); needs mdbook.
	@command -v mdbook >/dev/null || { echo 'mdbook is missing: cargo install mdbook --locked (some minutes)'; exit 1; }
	mdbook build docs --dest-dir $(CURDIR)/target/guide
	@echo "open target/guide/index.html"

deb: $(BUILT) ## Build a Debian package (target/package/).
	contrib/debian/build-package.sh $(BINARY)

testdeb: $(BUILT) ## Install, use, upgrade and purge the package in a bare Debian, and its service under systemd in a container; needs root, debootstrap, systemd-nspawn and a mirror.
	contrib/debian/test-package.sh "$$(contrib/debian/build-package.sh $(BINARY))" "$$(contrib/debian/build-package.sh $(BINARY) 2)"
	contrib/debian/test-service.sh "$$(contrib/debian/build-package.sh $(BINARY))"

portable: ## Build the program with libpcap inside, for every distribution with glibc 2.34 or newer (target/portable/release/bridgeward).
	contrib/build-tools.sh
	contrib/release/static-libpcap.sh target/portable/libpcap
	LIBPCAP_LIBDIR=$(CURDIR)/target/portable/libpcap $(CARGO) build --locked --release --target-dir target/portable
	contrib/release/judge-program.sh $(PORTABLE)

rpm: portable ## Build an RPM package (target/package/); needs rpmbuild (Debian: rpm).
	contrib/rpm/build-package.sh $(PORTABLE)

dist: portable ## Build a release tarball with the portable program, and its checksum (target/dist/).
	rm -rf target/dist/$(RELEASE)
	$(MAKE) -s install DESTDIR=target/dist/$(RELEASE) BINARY=$(PORTABLE)
	install -m 0644 target/portable/libpcap/copyright target/dist/$(RELEASE)$(PREFIX)/share/doc/bridgeward/libpcap.copyright
	install -m 0644 -t target/dist/$(RELEASE) README.md LICENSE LICENSE-MIT LICENSE-APACHE CHANGELOG.md
	tar -C target/dist --sort=name --owner=0 --group=0 --numeric-owner -czf target/dist/$(RELEASE).tar.gz $(RELEASE)
	cd target/dist && sha256sum $(RELEASE).tar.gz > $(RELEASE).tar.gz.sha256

clean: ## Remove what was built.
	$(CARGO) clean
