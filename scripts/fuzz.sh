#!/usr/bin/env bash
# Runs each fuzz target for some seconds from a fixed seed, starting from its committed inputs in fuzz/seeds/TARGET.
# Usage: scripts/fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.tools/bin:$PATH"
export RUST_BACKTRACE=0 # of the fuzzer, not of the target: a finding prints its own input

cargo metadata --locked --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null # the lock file is up to date
mapfile -t targets < <(cargo fuzz list)
((${#targets[@]})) || { echo "fuzz/Cargo.toml has no targets" >&2; exit 1; }

# No sanitizer: the targets run none of our unsafe code (docs/adr/0008, 0018), and a sanitizer needs an unstable compiler.
for target in "${targets[@]}"; do
    corpora=("fuzz/corpus/$target")
    mkdir -p "${corpora[0]}"
    [ ! -d "fuzz/seeds/$target" ] || corpora+=("fuzz/seeds/$target")
    echo "fuzz: $target for $1 s"
    cargo fuzz run --sanitizer none "$target" "${corpora[@]}" -- -seed=1 -max_total_time="$1" -print_final_stats=1
done
