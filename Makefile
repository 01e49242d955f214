# make demo   the main job end to end, with a PostgreSQL server and a scheduler of its own
# make test   all tests
# make deny   licences, banned crates and sources of all dependencies (deny.toml)
# make faults power cuts at 200 points of ext4 and 50 of XFS and btrfs, every system call and every write of a disk failed, instead of the few
#             of make test (two hours)
# make fuzz   every fuzz target for FUZZ_SECONDS (600) each; TARGETS="http records" only those
# make bench  daykeep against rsync, pg_dumpall and the rest, as ratios of one run
# make install DESTDIR=... PREFIX=/usr

SHELL := /bin/bash
PREFIX ?= /usr
DESTDIR ?=
CARGO ?= cargo
PROGRAMS ?= target/release

.PHONY: all build test faults demo bench check deny fuzz tools install clean

all: build

build:
	$(CARGO) build --release --locked

# What the tests and the demo need beside Rust: installed when missing, by apt, as root or through sudo.
tools:
	@setup/tools.sh

test: tools
	@tests/servers.sh
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --locked --all-targets --no-fail-fast; \
	else \
	  $(CARGO) test --locked --all-targets --no-fail-fast; \
	fi

# One test at a time, so that what it says is read in its order.
faults: tools
	@DAYKEEP_POWER_CUTS=$${DAYKEEP_POWER_CUTS:-200} \
	  $(CARGO) test --locked --test power_cut -- --nocapture --test-threads 1
	@DAYKEEP_FAULTS=all $(CARGO) test --locked --test full_disk --test failing_disk -- --nocapture --test-threads 1

# The fuzz targets are a workspace of their own, whose library has the parts that only they use; libFuzzer itself is not needed to check them.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a RUSTFLAGS="--cfg fuzzing -D warnings" \
	  $(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz

deny:
	@setup/deny.sh

fuzz:
	@setup/tools.sh c++ g++
	@fuzz/run.sh $(TARGETS)

demo: tools
	@$(CARGO) build --release --locked --bins --examples
	@demo/demo.sh

bench: tools
	@$(CARGO) build --release --locked --bins --examples
	@benches/run.sh

install:
	install -D -m 0755 $(PROGRAMS)/daykeep $(DESTDIR)$(PREFIX)/bin/daykeep
	install -D -m 0755 $(PROGRAMS)/daykeepd $(DESTDIR)$(PREFIX)/sbin/daykeepd
	install -D -m 0644 systemd/daykeep.service $(DESTDIR)$(PREFIX)/lib/systemd/system/daykeep.service
	install -D -m 0644 systemd/daykeep.sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/daykeep.conf
	install -D -m 0644 systemd/daykeep.tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/daykeep.conf
	install -d -m 0750 $(DESTDIR)/etc/daykeep
	$(PROGRAMS)/daykeep man --out $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(PROGRAMS)/daykeep completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/daykeep
	install -d $(DESTDIR)$(PREFIX)/share/doc/daykeep/examples
	install -m 0644 config/*.toml $(DESTDIR)$(PREFIX)/share/doc/daykeep/examples/

clean:
	$(CARGO) clean
