#!/usr/bin/env bash
# What the embedded form costs: size of the release binary, time until ready, memory at idle. Prints
# the figures and fails where one is over its limit.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${CARGO_TARGET_DIR:-target}/release/dispatcher-api
MAX_SIZE_MIB=40 MAX_READY_MS=1000 MAX_RESIDENT_MIB=40
[[ -x $BIN ]] || { echo "footprint: $BIN is missing: run make run first" >&2; exit 1; }

work=$(mktemp -d)
service=
trap '[[ -z $service ]] || kill "$service" 2>/dev/null || :; rm -rf "$work"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

started=$(date +%s%N)
"$BIN" standalone --data-dir "$work/data" --listen "127.0.0.1:$port" >"$work/log" 2>&1 &
service=$!
until curl -fsS -o "$work/ready" "http://127.0.0.1:$port/health/ready" 2>/dev/null; do
    kill -0 "$service" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.01
done
ready_ms=$((($(date +%s%N) - started) / 1000000))
sleep 3 # what a start needs is given back or not; idle is after that
resident_mib=$(($(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$service/status") / 1024))
size_mib=$(($(stat -c %s "$BIN") / 1048576))

fail=0
check() { # NAME VALUE LIMIT UNIT
    printf 'footprint: %-12s %5s %s (limit %s)\n' "$1" "$2" "$4" "$3"
    (($2 <= $3)) || { echo "footprint: $1 is over its limit" >&2; fail=1; }
}
check 'binary' "$size_mib" "$MAX_SIZE_MIB" MiB
check 'ready after' "$ready_ms" "$MAX_READY_MS" ms
check 'idle memory' "$resident_mib" "$MAX_RESIDENT_MIB" MiB
exit "$fail"
