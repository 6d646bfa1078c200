#!/usr/bin/env bash
# The container image around programs that cargo has built here: the last stage of the Containerfile.
# BASE names another system below them, which must have at least this machine's glibc; IMAGE another name;
# PREBUILT a directory with programs that were built elsewhere: then nothing is built here.
set -euo pipefail
[[ -z ${PREBUILT:-} ]] || PREBUILT=$(readlink -f "$PREBUILT")
cd "$(dirname "$0")/.."

command -v podman >/dev/null 2>&1 || {
    echo 'image: podman is missing. Debian, Ubuntu: sudo apt-get install -y podman · Fedora, RHEL: sudo dnf install -y podman' >&2
    echo 'image: without it, and as root, tests/testhost/images api target/release builds one in a test host' >&2
    exit 1
}
[[ -n ${PREBUILT:-} ]] || make --no-print-directory programs
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/image"
for program in dispatcher-api auth-tracker dispatchctl dispatcher-worker quadletgen; do
    install -m 755 "${PREBUILT:-${CARGO_TARGET_DIR:-target}/release}/$program" "$context/image/"
done
podman build --file Containerfile --build-arg BINARIES=prebuilt ${BASE:+--build-arg "BASE=$BASE"} \
    --tag "${IMAGE:-localhost/dispatcher-api}" "$context"
