#!/usr/bin/env bash
# Runs every fuzz target, or those that are named, one after the other for FUZZ_SECONDS (600) each, with what fuzz/seeds and the
# repository have to begin with. What is found new is kept in fuzz/corpus; what fails, in fuzz/artifacts. libFuzzer needs a C++ compiler;
# cargo-fuzz is built when it is missing.
#
# On the stable compiler: coverage needs nothing else, and without a sanitizer, since there is no unsafe code to be watched but that of
# the libraries. Arithmetic that overflows and debug assertions do fail.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${FUZZ_SECONDS:-600}
version=0.13.2
cargo fuzz --version >/dev/null 2>&1 || {
    echo "installing: cargo-fuzz $version"
    cargo install --quiet --debug --locked --version "$version" cargo-fuzz
}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir .)

# Targets write files for every input: in memory, and gone afterwards also when libFuzzer ends the process.
TMPDIR=$(mktemp -d -p /dev/shm daykeep-fuzz.XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

failed=()
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target"
    seeds=()
    [ ! -d "seeds/$target" ] || seeds+=("seeds/$target")
    [ "$target" != config ] || seeds+=(../config ../tests/config)
    options=()
    [ ! -e "seeds/$target.dict" ] || options+=("-dict=seeds/$target.dict")
    echo "fuzz: $target for ${seconds}s"
    cargo fuzz run --sanitizer none --fuzz-dir . "$target" "corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 "${options[@]}" ||
        failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || {
    echo "fuzz: failed: ${failed[*]}; what fails is in fuzz/artifacts" >&2
    exit 1
}
