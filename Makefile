# Every target first sets up what it needs and the host lacks; see scripts/setup.

SHELL := /bin/bash
# Where rustup and the distribution put programs that a bare login does not find.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
.DEFAULT_GOAL := help
SEEDS ?= 100000
.PHONY: help run setup build static deb service image check test lint fuzz bench chaos hostile simulate schema ci clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

run: ## Set up what is missing, build, and serve apis/ until Ctrl-C
	@scripts/setup serve
	@cargo build --release --locked
	@exec scripts/with-engine target/release/skep serve --welcome

setup: ## Only set up what is missing
	@scripts/setup test

build: ## Build target/release/skep
	@scripts/setup build
	@cargo build --release --locked

static: ## Build one static binary for any Linux, below target/
	@scripts/setup static
	@cargo build --profile dist --locked --target $$(scripts/static target)

deb: static ## Build a Debian package, target/deb/*.deb, and try it in a fresh system
	@scripts/deb "$$(scripts/static binary)"
	@scripts/check-deb target/deb/*_$$(dpkg --print-architecture).deb

service: deb ## Run the package's service under a real systemd, in a container, and look whether it does what it should
	@scripts/setup serve
	@scripts/check-service target/deb/*_$$(dpkg --print-architecture).deb

image: static ## Build the container image skep:VERSION, from Debian packages and no registry
	@scripts/setup serve
	@exec scripts/with-engine scripts/image "$$(scripts/static binary)"

check: build ## Check skep.yaml and apis/, without an engine
	@target/release/skep check

test: ## Run all tests, those against a real engine included
	@scripts/setup test
	@exec scripts/with-engine cargo test --locked

simulate: ## Play SEEDS=100000 histories of users, faults and daemons in memory; one alone with SKEP_SEED=…
	@SKEP_SEEDS=$(SEEDS) cargo test --release --locked --test simulation -- --nocapture

lint: ## Check formatting, lints, licences and advisories
	@scripts/setup lint
	@scripts/lint

fuzz: ## Fuzz every reader for SECONDS=60; see CONTRIBUTING.md
	@scripts/setup build
	@exec scripts/fuzz $(or $(SECONDS),60)

bench: ## Measure, side by side with the floor
	@scripts/setup bench
	@exec scripts/with-engine cargo bench --locked

hostile: ## Serve hostile code beside neighbours: what it reaches, and what they notice
	@scripts/setup test
	@exec scripts/with-engine cargo test --locked --test hostile -- --test-threads 1

chaos: ## Break everything around skep, on purpose, and print what came of it
	@scripts/setup test
	@exec scripts/with-engine cargo test --release --locked --test chaos -- --all $(CHAOS)

schema: build ## Write schema/ anew from the types
	@target/release/skep schema --write schema --table docs/settings.md

ci: ## What the continuous integration runs
	@.ci/run

clean: ## Remove what builds have left; containers and records stay
	@cargo clean
