#!/usr/bin/env bash
# What Dispatcher needs on this machine: says what is missing, installs it where it may.
#
#   scripts/deps.sh run          to build and run: a C compiler, Rust, Python, Ansible
#   scripts/deps.sh test         the same, and the services that tests start for themselves: PostgreSQL,
#                                Redis, RabbitMQ, HAProxy, an S3 server, ssh
#   scripts/deps.sh host         the same as for test, and what boots whole hosts (as root)
#   scripts/deps.sh lint         the same as for test, and the linters
#   CHECK=1 scripts/deps.sh …    change nothing, only say what is missing
#
# System packages are installed when this runs as root on a machine with apt-get or dnf; anybody else
# is told the exact command. No service of the system is started by that. Ansible and the S3 server go
# into the user's own directory, never into the system.
set -euo pipefail
cd "$(dirname "$0")/.."

ANSIBLE_HOME=${DISPATCHER_ANSIBLE_HOME:-$HOME/.local/share/dispatcher/ansible}
ANSIBLE_CORE='ansible-core>=2.17,<2.20'
ANSIBLE_RUNNER_VERSION='ansible-runner>=2.4,<3'
ANSIBLE_LINT='ansible-lint>=25,<27'
TOOLS_HOME=$HOME/.local/share/dispatcher/tools
# The newest that the Rust version of this project builds.
S3_SERVER_VERSION=0.14.1
POLICY=/usr/sbin/policy-rc.d
debian=() fedora=()

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

# need COMMAND DEBIAN-PACKAGE FEDORA-PACKAGE
need() {
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || { debian+=("$2") fedora+=("$3"); }
}

postgres_found() {
    command -v initdb >/dev/null 2>&1 || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null
}

system_packages() {
    # A compiler without the C library's headers links nothing.
    echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null ||
        { debian+=(gcc libc6-dev) fedora+=(gcc glibc-devel); }
    need make make make
    need curl curl curl
    # Debian splits venv off: importing it works, ensurepip is what is missing.
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        { debian+=(python3 python3-venv) fedora+=(python3); }
    [[ $1 != run ]] || return 0
    postgres_found || { debian+=(postgresql) fedora+=(postgresql-server); }
    need redis-server redis-server redis
    need rabbitmq-server rabbitmq-server rabbitmq-server
    need haproxy haproxy haproxy
    need openssl openssl openssl
    need ssh openssh-client openssh-clients
    command -v setpriv setsid >/dev/null 2>&1 || { debian+=(util-linux) fedora+=(util-linux); }
    [[ $1 != lint ]] || need shellcheck shellcheck ShellCheck
    [[ $1 == host ]] || return 0
    need debootstrap debootstrap debootstrap
    need unshare util-linux util-linux
    need ip iproute2 iproute
    need pgrep procps procps-ng
    command -v docker-registry >/dev/null 2>&1 || need registry docker-registry docker-distribution
}

# without_starting COMMAND...: Debian's packages start what they bring, unless this file says no.
without_starting() {
    if [[ -e $POLICY ]]; then
        DEBIAN_FRONTEND=noninteractive "$@"
        return
    fi
    # Gone again however this ends.
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    DEBIAN_FRONTEND=noninteractive "$@"
    rm -f "$POLICY"
    trap - EXIT
}

install_packages() {
    ((${#debian[@]})) || return 0
    local apt="apt-get install -y ${debian[*]}" dnf="dnf install -y ${fedora[*]}"
    if [[ -n ${CHECK:-} || $EUID != 0 ]]; then
        say "missing. Debian, Ubuntu:  sudo $apt"
        say "missing. Fedora, RHEL:    sudo $dnf"
        die "install them and run this again"
    fi
    if command -v apt-get >/dev/null 2>&1; then
        say "installing: ${debian[*]}"
        # The tests start their own PostgreSQL; the package must not start one for the system.
        if [[ " ${debian[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
            mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        apt-get update -q >/dev/null
        without_starting apt-get install -y -q --no-install-recommends "${debian[@]}" >/dev/null
    elif command -v dnf >/dev/null 2>&1; then
        say "installing: ${fedora[*]}"
        dnf install -y -q "${fedora[@]}"
    else
        die "neither apt-get nor dnf here; install the equivalents of: ${debian[*]}"
    fi
}

rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null 2>&1 ||
        die "Rust is missing: install $wanted or newer from https://rustup.rs, then run this again"
    found=$(cargo --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n1) == "$wanted" ]] ||
        die "Rust $found is too old, $wanted or newer is needed: rustup update stable"
}

# ansible_in DIRECTORY PACKAGE...
ansible_in() {
    local home=$1
    shift
    [[ -z ${CHECK:-} ]] || die "missing: $* in $home (run this without CHECK=1)"
    say "installing $* into $home"
    # A directory left half made by an interrupted installation is made anew.
    python3 -m venv --clear "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "$@"
}

ansible() {
    local found
    for found in "${ANSIBLE_RUNNER:-}" /opt/dispatcher/ansible/bin/ansible-runner "$ANSIBLE_HOME/bin/ansible-runner"; do
        if [[ -x $found ]] && "$found" --version >/dev/null 2>&1; then return 0; fi
    done
    ansible_in "$ANSIBLE_HOME" "$ANSIBLE_CORE" "$ANSIBLE_RUNNER_VERSION"
}

s3_server() {
    local found
    for found in "$TOOLS_HOME/bin/s3s-fs" "${CARGO_HOME:-$HOME/.cargo}/bin/s3s-fs"; do
        [[ ! -x $found ]] || return 0
    done
    [[ -z ${CHECK:-} ]] || die "missing: s3s-fs in $TOOLS_HOME (run this without CHECK=1)"
    say "installing s3s-fs $S3_SERVER_VERSION into $TOOLS_HOME"
    # Built elsewhere: the project's own directory is for the project's own builds.
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$TOOLS_HOME" --features binary \
        --version "$S3_SERVER_VERSION" s3s-fs
}

linters() {
    local tool
    [[ -x $ANSIBLE_HOME-lint/bin/ansible-lint ]] || ansible_in "$ANSIBLE_HOME-lint" "$ANSIBLE_CORE" "$ANSIBLE_LINT"
    for tool in clippy rustfmt; do
        cargo "${tool/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$tool"
    done
    for tool in cargo-machete cargo-deny; do
        command -v "$tool" >/dev/null 2>&1 || [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/$tool ]] && continue
        [[ -z ${CHECK:-} ]] || die "missing: $tool (cargo install --locked $tool)"
        say "installing $tool"
        cargo install --quiet --locked "$tool"
    done
}

what=${1:-lint}
case $what in run | test | host | lint) ;; *) die "usage: $0 run|test|host|lint" ;; esac
system_packages "$what"
install_packages
rust
ansible
[[ $what == run ]] || s3_server
[[ $what != lint ]] || linters
say "everything for '$what' is here"
