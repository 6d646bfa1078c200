#!/usr/bin/env bash
# The whole of it on three throw-away hosts: site.yml deploys the service on one and workers on two, a playbook runs
# through HAProxy on both, then the service is scaled and upgraded under load.
#
#   ONCE=1    end after that, with its exit status (otherwise it stays up until Ctrl-C)
#   RATE      requests a second (50)
#   PROFILE   of which build the programs are (dev, as tests are; release)
#
# Needs root, since the hosts are namespaces with systemd in them. They are gone at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

PROFILE=${PROFILE:-dev}
BIN=${CARGO_TARGET_DIR:-target}/${PROFILE/#dev/debug}
API=demo-api
MANAGED=(demo-one demo-two)
ANSIBLE=${ANSIBLE_PLAYBOOK:-}
work=$(mktemp -d)
load=

testhost() { tests/testhost/testhost "$@"; }
ctl() { HOME=$work "$BIN/dispatchctl" "$@"; }
on() { local host=$1; shift; testhost exec "$host" -- "$@"; }
# say TEXT: with the time since the beginning, so that figures can be told from waiting.
say() { printf '%3d:%02d  %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
heading() { printf '\n'; say "$*"; }

down() {
    local host
    [[ -z $load ]] || { kill "$load" 2>/dev/null || :; wait "$load" 2>/dev/null || :; }
    for host in "$API" "${MANAGED[@]}"; do testhost down "$host" >/dev/null 2>&1 || :; done
    rm -rf "$work"
}

# under_load NAME COMMAND...: while requests are sent; prints what the load says, each second a line.
under_load() {
    local name=$1 begun took
    shift
    heading "$name, at ${RATE:-50} requests a second"
    mkfifo "$work/until"
    URL=http://$address KEY_FILE=$work/key "$BIN/steady" <"$work/until" &
    load=$!
    exec 3>"$work/until"
    sleep 2 # of nothing but load, to compare with
    begun=$(date +%s%N)
    on "$API" "$@"
    took=$((($(date +%s%N) - begun) / 1000000))
    sleep 2
    exec 3>&- # its standard input ends, and with it the load
    rm "$work/until"
    wait "$load" || { load=; say "requests failed: see above"; failed=1; return; }
    load=
    say "$name took ${took} ms"
}

inventory() {
    local host
    echo '[dispatcher_api]'
    testhost list | grep "^$API "
    echo '[dispatcher_workers]'
    for host in "${MANAGED[@]}"; do testhost list | grep "^$host "; done
    cat <<END
[all:vars]
dispatcher_public_url=http://$address
dispatcher_worker_org=local
dispatcher_api_image=localhost/dispatcher-api:1
dispatcher_postgresql_image=localhost/postgresql:test
dispatcher_redis_image=localhost/redis:test
dispatcher_rabbitmq_image=localhost/rabbitmq:test
END
}

playbook() {
    cat <<'END'
- name: Leave a mark
  hosts: all
  become: true
  tasks:
    - name: A file that root owns
      ansible.builtin.copy:
        dest: /etc/dispatcher-was-here
        content: "{{ ansible_facts.nodename }}\n"
        mode: "0644"
END
}

[[ $EUID == 0 ]] || { echo 'demo: the hosts are namespaces with systemd in them, which needs root (try sudo)' >&2; exit 1; }
[[ -n $ANSIBLE ]] || for ANSIBLE in /opt/dispatcher/ansible/bin/ansible-playbook ~/.local/share/dispatcher/ansible/bin/ansible-playbook; do
    [[ ! -x $ANSIBLE ]] || break
done
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
failed=0

heading 'three Debian hosts, nothing of ours on them'
for host in "$API" "${MANAGED[@]}"; do
    testhost down "$host" >/dev/null 2>&1 || :
    say "$(testhost up "$host")"
done
address=$(testhost list | sed -n "s/^$API ansible_host=\([^ ]*\).*/\1/p")
say 'the images, which no registry is asked for'
tests/testhost/images load "$API" >/dev/null

heading 'ansible-playbook site.yml'
inventory >"$work/inventory"
ANSIBLE_HOST_KEY_CHECKING=false ANSIBLE_FORCE_COLOR=${FORCE_COLOR:-} ANSIBLE_HOME=$work/ansible LC_ALL=C.UTF-8 \
    "$ANSIBLE" -i "$work/inventory" site.yml | tee "$work/site.log" | grep --line-buffered -E '^PLAY |changed=' || { tail -n 40 "$work/site.log"; exit 1; }
on "$API" podman secret inspect --showsecret --format '{{.SecretData}}' dispatcher-psk-operator >"$work/key"
chmod 600 "$work/key"
on "$API" quadletgen status

heading 'a playbook, through HAProxy, on each managed host'
playbook >"$work/mark.yml"
ctl context set demo --url "http://$address" --org local --key-stdin --insecure <"$work/key"
ctl recipients list
for host in "${MANAGED[@]}"; do
    ctl run "$work/mark.yml" --recipient "$host" --follow
    say "$host: $(on "$host" ls -l /etc/dispatcher-was-here)"
done

under_load 'quadletgen scale 8' quadletgen scale 8
under_load 'a rolling upgrade' quadletgen roll --image localhost/dispatcher-api:2
on "$API" quadletgen status

heading "http://$address answers; the operator's key: $work/key"
[[ $failed == 0 ]] || exit 1
if [[ ${ONCE:-} != 1 ]]; then
    say 'Ctrl-C ends it and removes the hosts'
    sleep infinity
fi
