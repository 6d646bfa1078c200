-- What several instances, people with keys, and workers on other hosts need. Still nothing of ours in
-- the contract's tables.

-- Grows with every change of a key, in the transaction that makes it. One row.
CREATE TABLE auth_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL
);
INSERT INTO auth_state (version) VALUES (1);

-- Pre-shared keys of services, as keyed digests. org_id NULL: every organisation.
CREATE TABLE service_keys (
    id text PRIMARY KEY,
    service text NOT NULL,
    org_id varchar,
    role text NOT NULL,
    digest bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text
);
CREATE INDEX service_keys_service_index ON service_keys (service, created_at, id);

-- When somebody was last authenticated: kind is user, service or recipient.
CREATE TABLE last_auth (
    kind text NOT NULL,
    id text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);

-- What people and services changed. detail never holds a secret.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    org_id varchar,
    principal_kind text NOT NULL,
    principal_id text NOT NULL,
    role text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    request_id text,
    detail json
);
CREATE INDEX audit_org_id_index ON audit (org_id, id DESC);
CREATE INDEX audit_at_index ON audit (at);

-- Rights that one process at a time has, on this database's clock.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder uuid NOT NULL,
    holder_name text NOT NULL,
    epoch bigint NOT NULL,
    held_until timestamptz NOT NULL
);

-- Processes of the service; auth_version is what each has in force.
CREATE TABLE instances (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    auth_version bigint NOT NULL DEFAULT 0,
    draining boolean NOT NULL DEFAULT false
);

-- One-time tokens with which workers register, as keyed digests. recipient: the only one it may
-- register; may_replace: also where that one is registered already; used_*: who did, so that the same
-- request may be repeated.
CREATE TABLE registrations (
    digest bytea PRIMARY KEY,
    org_id varchar NOT NULL,
    recipient uuid,
    name text,
    labels json,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    may_replace boolean NOT NULL,
    used_at timestamptz,
    used_by uuid,
    used_key_digest bytea
);
CREATE INDEX registrations_org_id_index ON registrations (org_id);
CREATE INDEX registrations_expires_at_index ON registrations (expires_at);

-- labels are the operator's, facts the worker's. removed_at: its address stays its organisation's, since
-- runs name it.
ALTER TABLE recipients
    ADD COLUMN labels json,
    ADD COLUMN facts json,
    ADD COLUMN facts_at timestamptz,
    ADD COLUMN removed_at timestamptz;

-- NULL: no broker has it yet.
ALTER TABLE outbox ADD COLUMN published_at timestamptz;

-- What goes with a run, and what belongs to none and is old.
CREATE INDEX uploads_run_id_index ON uploads (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX uploads_settled_index ON uploads (created_at) WHERE state <> 'pending';

-- What is known of runs behind a Satellite and of their hosts (run_hosts.id; the nil UUID: of all
-- hosts), so that uploads come to the same end in whatever order. reported: the state last reported.
CREATE TABLE satellite_progress (
    run_id uuid NOT NULL,
    host_id uuid NOT NULL,
    reported text,
    state json NOT NULL,
    PRIMARY KEY (run_id, host_id)
);
