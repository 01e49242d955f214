#!/bin/sh
# Checks licences, banned crates and sources against deny.toml. cargo-deny is built when it is missing: without optimisation, which takes a
# third of the time and is fast enough. The crates themselves are fetched by then, so nothing is asked of the network.
set -eu
version=0.20.2

if ! cargo deny --version >/dev/null 2>&1; then
    echo "installing: cargo-deny $version"
    cargo install --quiet --debug --locked --version "$version" cargo-deny
fi
cargo fetch --quiet --locked
cargo deny --offline --locked check --hide-inclusion-graph licenses bans sources
