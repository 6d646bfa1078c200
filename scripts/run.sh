#!/usr/bin/env bash
# Starts the embedded service, runs the example playbook through it, and serves until Ctrl-C.
#
#   PORT      port on 127.0.0.1 (8000)
#   DATA_DIR  where the service keeps its state (./data)
#   ONCE=1    end after the example, with its exit status
#   PROFILE   of which build the programs are (release; dev is what tests are built as)
set -euo pipefail
cd "$(dirname "$0")/.."

PORT=${PORT:-8000}
DATA_DIR=${DATA_DIR:-./data}
PROFILE=${PROFILE:-release}
BIN=${CARGO_TARGET_DIR:-target}/${PROFILE/#dev/debug}
URL=http://127.0.0.1:$PORT
service=

stop() {
    [[ -z $service ]] || { kill -TERM "$service" 2>/dev/null || :; wait "$service" 2>/dev/null || :; }
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -p "$DATA_DIR"
log=$DATA_DIR/dispatcher-api.log
"$BIN/dispatcher-api" standalone --data-dir "$DATA_DIR" --listen "127.0.0.1:$PORT" >"$log" 2>&1 &
service=$!
until "$BIN/dispatcher-api" healthcheck --url "$URL/health/ready" >/dev/null 2>&1; do
    if ! kill -0 "$service" 2>/dev/null; then
        service=
        echo "The service did not start:" >&2
        tail -n 5 "$log" >&2
        echo "If port $PORT is taken, choose another: make run PORT=$((PORT + 1))" >&2
        exit 1
    fi
    sleep 0.05
done
# Another process may answer on the port; ours must be the one that is alive.
kill -0 "$service" 2>/dev/null || { tail -n 5 "$log" >&2; exit 1; }

status=0
DISPATCHER_DATA_DIR=$DATA_DIR "$BIN/dispatchctl" run examples/hello.yml --follow || status=$?
[[ -z ${ONCE:-} ]] || exit "$status"

ctl=$BIN/dispatchctl
[[ $DATA_DIR == ./data ]] || ctl="DISPATCHER_DATA_DIR=$DATA_DIR $ctl"
cat <<END

Dispatcher is serving on $URL
  key   $(cat "$DATA_DIR/api-key") (kept in $DATA_DIR/api-key)
  log   $log
  try   $ctl run examples/slow.yml --follow
  or    curl -H "Authorization: PSK \$(cat $DATA_DIR/api-key)" $URL/api/playbook-dispatcher/v1/runs
Ctrl-C ends it.
END
wait "$service"
