#!/bin/sh
# Counts the instructions of one check of a pre-shared key, one of a token that is remembered, and
# one SHA-256 of the same token, in one run of one program under callgrind.
set -eu
cd "$(dirname "$0")/.."
if ! command -v valgrind >/dev/null 2>&1; then
    echo "auth-cost: valgrind is missing; install it: apt-get install valgrind (dnf install valgrind)" >&2
    exit 1
fi
# Symbols tell which function is which.
CARGO_PROFILE_RELEASE_STRIP=none cargo build --locked --release -p dispatcher-tests --bin authcost
program="${CARGO_TARGET_DIR:-target}/release/authcost"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$out/counts" \
    --toggle-collect='*counted_psk_check*' --toggle-collect='*counted_token_check*' \
    --toggle-collect='*counted_token_digest*' "$program" >"$out/said" 2>"$out/log" || {
    cat "$out/log" >&2
    exit 1
}
callgrind_annotate --inclusive=yes --threshold=100 "$out/counts" >"$out/table"
awk '
    FNR == NR { said[$1] = $2; next }
    /counted_(psk_check|token_check|token_digest)/ && !/=>/ {
        count = $1
        gsub(",", "", count)
        match($0, /counted_(psk_check|token_check|token_digest)/)
        name = substr($0, RSTART + 8, RLENGTH - 8)
        if (!(name in counts)) counts[name] = count / said["times"]
    }
    END {
        digest = counts["token_digest"]
        if (!digest) { print "auth-cost: the functions are not in the counts" > "/dev/stderr"; exit 1 }
        # Nine bytes and more of padding belong to the message.
        blocks = int((said["token"] + 9 + 63) / 64)
        block = digest / blocks
        printf "%-46s %12s %10s %10s\n", "what", "instructions", "digests", "blocks"
        row("a pre-shared key is checked", counts["psk_check"])
        row("a token that is remembered is checked", counts["token_check"])
        row("SHA-256 of that token (" said["token"] " bytes)", digest)
    }
    function row(what, count) {
        printf "%-46s %12d %10.2f %10.2f\n", what, count, count / digest, count / block
    }
' "$out/said" "$out/table"
