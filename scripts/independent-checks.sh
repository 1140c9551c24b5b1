#!/usr/bin/env bash
# Runs the programs that check the workspace's formats and share no code with it:
# - every tests/independent/NAME.py as `NAME.py check docs/vectors/NAME-*.json`: it opens the published test vectors;
# - the Go verifier of the audit log, tests/verifier, on logs that its tests make.
# With `verify-log DIR [FLAG...]` only the latter, on the log in DIR/audit, which a test or the service has made; with
# `build-verifier FILE` it is only built.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

# Debian's golang-golang-x-mod-dev lies here; nothing is fetched.
export GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS='' GOTOOLCHAIN=local CGO_ENABLED=0

check_vectors() {
    local check vectors passed=0
    cd "$here"
    while IFS= read -r check; do
        vectors=(docs/vectors/"$(basename "$check" .py)"-*.json)
        [ -e "${vectors[0]}" ] || { echo "$check: no vectors at ${vectors[0]}" >&2; exit 1; }
        echo "$check check ${vectors[*]}"
        .tools/venv/bin/python -B "$check" check "${vectors[@]}"
        passed=$((passed + 1))
    done < <(git ls-files --cached --others --exclude-standard 'tests/independent/*.py' '*/tests/independent/*.py')

    ((passed)) || { echo "no independent check was found" >&2; exit 1; }
    echo "independent checks: $passed passed"
}

check_verifier() {
    echo "tests/verifier: go vet, go test"
    (cd "$here/tests/verifier" && go vet . && go test .)
}

build_verifier() {
    (cd "$here/tests/verifier" && go build -o "$1" .)
}

# THE LOG OF A REAL SERVICE. The key from DIR suffices here, for the caller trusts the service that has just made it.
verify_log() {
    local built code=0
    built=$(mktemp -d)
    build_verifier "$built/verifier" || code=2
    ((code)) || "$built/verifier" --key "@$1/audit/log-key" "${@:2}" "$1" || code=$?
    rm -r "$built"
    return "$code"
}

case "${1-}" in
'')
    check_vectors
    check_verifier
    ;;
verify-log)
    [ $# -ge 2 ] || { echo "usage: $0 verify-log DIR [FLAG...]" >&2; exit 2; }
    verify_log "${@:2}"
    ;;
build-verifier)
    [ $# -eq 2 ] || { echo "usage: $0 build-verifier FILE" >&2; exit 2; }
    build_verifier "$2"
    ;;
*)
    echo "usage: $0 [verify-log DIR [FLAG...] | build-verifier FILE]" >&2
    exit 2
    ;;
esac
