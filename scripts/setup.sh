#!/usr/bin/env bash
# Installs what one or more groups of make targets need and is missing; silent when nothing is.
# Usage: scripts/setup.sh demo|test|check|bench|soak|fuzz...
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_DENY=0.20.2
readonly CARGO_FUZZ=0.13.2
readonly MINIMUM_RUST=1.92

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

packages=()

# Notes the Debian package named last when the test before it fails.
need_package() {
    local package=${*: -1}
    "${@:1:$#-1}" >/dev/null 2>&1 || packages+=("$package")
}

has_venv() { python3 -c 'import ensurepip, venv'; }
has_header() { echo "#include <$1>" | cc -E -xc -; }
has_go_notes() { [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb/note ]; }
has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang.so' || [ -e /usr/lib64/libclang.so ]; }

# What the service needs: a linker, and a token.
need_service() {
    need_package has cc gcc
    need_package has softhsm2-util softhsm2
}

install_packages() {
    ((${#packages[@]})) || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    local wanted="Debian packages: ${packages[*]}"
    has apt-get || fail "please install the equivalent of these $wanted"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "please install as root these $wanted"
        root=(sudo)
    fi
    say "installing $wanted"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
}

need_rust() {
    has cargo || fail "cargo is missing: install Rust $MINIMUM_RUST or newer"
    local version
    version=$(rustc --version | cut -d' ' -f2)
    printf '%s\n' "$MINIMUM_RUST" "$version" | sort -CV || fail "Rust $version is too old: $MINIMUM_RUST or newer is needed"
}

need_component() {
    cargo "$1" --version >/dev/null 2>&1 || fail "the Rust component $2 is missing: run 'rustup component add $2'"
}

need_python() {
    local stamp=.tools/venv/installed-requirements.txt
    cmp -s scripts/requirements.txt "$stamp" && return
    say "installing Python packages into .tools/venv: $(grep -v '^#' scripts/requirements.txt | paste -sd' ')"
    rm -rf .tools/venv
    python3 -m venv .tools/venv
    .tools/venv/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
    cp scripts/requirements.txt "$stamp"
}

# The official Node.js SDK, whose packages the lock file names with their hashes.
need_node() {
    local locked=tests/clients/node tools=.tools/node
    cmp -s "$locked/package-lock.json" "$tools/installed-package-lock.json" && return
    say "installing Node.js packages into $tools"
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$locked"/package.json "$locked"/package-lock.json "$tools"
    (cd "$tools" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
    cp "$locked/package-lock.json" "$tools/installed-package-lock.json"
}

# These tools run for seconds and are compiled on every fresh clone, so they are built for a short compilation.
need_cargo_tool() {
    local tool=$1 version=$2
    case "$(".tools/bin/$tool" --version 2>/dev/null || true)" in *" $version") return ;; esac
    say "compiling $tool $version into .tools (some minutes)"
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_TARGET_DIR=.tools/build \
        cargo install --quiet --root .tools --locked --version "=$version" "$tool"
    rm -rf .tools/build
}

# Kryoptic, the second PKCS#11 module that the tests run on: the same crate gives the same module.
need_kryoptic() {
    local crate=tests/modules/kryoptic tools=.tools/kryoptic sources
    sources=$(cat "$crate"/Cargo.{toml,lock} "$crate"/src/*.rs | sha256sum)
    [ "$(cat "$tools/sources.sha256" 2>/dev/null)" != "$sources" ] || return 0
    say "compiling Kryoptic into $tools (a minute)"
    rm -rf "$tools"
    CARGO_TARGET_DIR=$tools/build cargo build --quiet --locked --release --manifest-path "$crate/Cargo.toml"
    mv "$tools/build/release/libkryoptic.so" "$tools"
    rm -rf "$tools/build"
    echo "$sources" >"$tools/sources.sha256"
}

# Packages first, for all groups together; then what is built on them.
note_packages() {
    case "$1" in
    demo)
        need_service
        need_package has_venv python3-venv
        ;;
    bench | soak) need_service ;;
    test)
        need_service
        need_package has strace strace
        need_package has pkcs11-tool opensc
        need_package has p11tool gnutls-bin
        need_package has openssl openssl
        need_package has_venv python3-venv
        # What Kryoptic is compiled with.
        need_package has pkg-config pkg-config
        need_package has_header openssl/evp.h libssl-dev
        need_package has_header sqlite3.h libsqlite3-dev
        need_package has_libclang libclang-dev
        # What the independent verifier of the audit log is compiled with.
        need_package has go golang-go
        # The second official client of DEW's protocol.
        need_package has node nodejs
        need_package has npm npm
        need_package has_go_notes golang-golang-x-mod-dev
        ;;
    check)
        need_package has cc gcc
        need_package has shellcheck shellcheck
        need_package has_venv python3-venv
        ;;
    fuzz) need_package has c++ g++ ;;
    *) fail "unknown group '$1'; usage: scripts/setup.sh demo|test|check|bench|soak|fuzz..." ;;
    esac
}

install_tools() {
    case "$1" in
    demo) need_python ;;
    test)
        need_python
        need_node
        need_kryoptic
        ;;
    check)
        need_component fmt rustfmt
        need_component clippy clippy
        need_python
        need_cargo_tool cargo-deny "$CARGO_DENY"
        ;;
    fuzz) need_cargo_tool cargo-fuzz "$CARGO_FUZZ" ;;
    esac
}

(($#)) || fail "usage: scripts/setup.sh demo|test|check|bench|soak|fuzz..."
for group in "$@"; do note_packages "$group"; done
need_rust
install_packages
for group in "$@"; do install_tools "$group"; done
