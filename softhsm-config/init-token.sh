#!/bin/sh
# Makes a SoftHSM2 token in a directory of its own: the one way that compose, CI, tests and dev mode use.
#
#   init-token.sh DIRECTORY LABEL
#   sh -s -- DIRECTORY LABEL < init-token.sh
#
# DIRECTORY (0700) gets `softhsm2.conf` (for SOFTHSM2_CONF), `pin`, `so-pin` and `token.object` (0600) and
# `tokens/`.
# Prints the path of the PKCS#11 module, and nothing else, on standard output.
#
# Run it before every start: a finished token is left alone, a half-made one is made anew.
# `tokens/` is what makes a token finished, and it appears by one rename after everything else, so
# nothing that this script removes can ever hold a key. It makes no keys: the service does that once.
#
# At every login SoftHSM2 empties the file `token.object` and writes it again; only a counter changes.
# Without it no key of the token can be used, so a process that is killed in between loses them all:
# the script keeps a copy beside the PIN and puts it back when the file is empty.
#
# No PIN is ever an argument or an environment variable of a process. softhsm2-util takes PINs only
# as arguments, which every user of the machine can read, or from a terminal: `script` is that terminal.
set -eu
umask 077

fail() {
    echo "init-token: $*" >&2
    exit 1
}

find_module() {
    for module in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
        /usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so \
        /usr/local/lib/softhsm/libsofthsm2.so /opt/homebrew/lib/softhsm/libsofthsm2.so; do
        if [ -f "$module" ]; then
            echo "$module"
            return
        fi
    done
    fail "libsofthsm2.so is missing: apt-get install softhsm2"
}

# 160 random bits in hexadecimal digits.
random_pin() {
    od -An -N20 -tx1 /dev/urandom | tr -d ' \n'
}

write_configuration() { # FILE TOKEN_DIRECTORY
    cat >"$1" <<END
# SoftHSM2's configuration: one token store, on files, that only its owner can read.
directories.tokendir = $2
objectstore.backend = file
slots.removable = false
log.level = ERROR
END
}

# softhsm2-util asks for each PIN twice. The terminal's input must not end before the program does, or
# `script` waits a quarter of a second for it: a FIFO that is open for reading and writing never ends.
initialise() { # MAKING LABEL
    mkfifo "$1/terminal"
    exec 8<>"$1/terminal"
    for file in so-pin so-pin pin pin; do
        cat "$1/$file"
        echo
    done >&8
    SHELL=/bin/sh SOFTHSM2_CONF="$1/softhsm2.conf" TOKEN_LABEL="$2" script -q -e -E never \
        -c 'exec softhsm2-util --init-token --free --label "$TOKEN_LABEL"' /dev/null \
        <&8 >"$1/output" 2>&1 || { cat "$1/output" >&2; fail "softhsm2-util refused to make the token"; }
    exec 8<&-
}

make_token() { # DIRECTORY LABEL
    making="$1/making"
    rm -rf "$making"
    mkdir -p "$making/tokens"
    random_pin >"$making/pin"
    random_pin >"$making/so-pin"
    write_configuration "$making/softhsm2.conf" "$making/tokens"
    initialise "$making" "$2"
    cp "$making"/tokens/*/token.object "$making/token.object"
    mv "$making/pin" "$making/so-pin" "$making/token.object" "$1"
    mv "$making/tokens" "$1/tokens"
    rm -rf "$making"
}

# A renamed copy, so that being killed here does no harm. A token that was added to this one has a copy under
# its own name.
restore_token_object() { # DIRECTORY
    for object in "$1"/tokens/*/token.object; do
        [ -d "${object%/*}" ] || continue # it was added to another one
        copy="$1/$(basename "$(dirname "$object")").object"
        [ -s "$copy" ] || copy="$1/token.object"
        if [ ! -s "$object" ] && [ -s "$copy" ]; then
            cp "$copy" "$object.copy"
            mv "$object.copy" "$object"
            echo "init-token: restored $object, which a process that was killed left empty" >&2
        fi
    done
}

main() {
    [ $# -eq 2 ] || fail "usage: init-token.sh DIRECTORY LABEL"
    [ -n "$2" ] && [ "$(printf %s "$2" | wc -c)" -le 32 ] || fail "a label has 1 to 32 bytes"
    module=$(find_module)
    command -v softhsm2-util >/dev/null || fail "softhsm2-util is missing: apt-get install softhsm2"
    command -v script >/dev/null || fail "script is missing: apt-get install bsdutils"

    mkdir -p "$1"
    chmod 700 "$1"
    directory=$(cd "$1" && pwd -P)
    exec 9<"$directory"
    flock 9 # two starts at once make one token

    [ -d "$directory/tokens" ] || make_token "$directory" "$2"
    restore_token_object "$directory"
    [ -f "$directory/pin" ] || fail "$directory holds a token, but its file 'pin' is missing"
    grep -qsxF "directories.tokendir = $directory/tokens" "$directory/softhsm2.conf" || {
        write_configuration "$directory/softhsm2.conf.new" "$directory/tokens"
        mv "$directory/softhsm2.conf.new" "$directory/softhsm2.conf"
    }
    echo "$module"
}

main "$@"
