-- What people with keys and workers on other hosts need, in the shape that several instances on
-- PostgreSQL have.

-- Grows with every change of a key, in the transaction that makes it. One row.
CREATE TABLE auth_state (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO auth_state (version) VALUES (1);

-- Pre-shared keys of services, as keyed digests. org_id NULL: every organisation.
CREATE TABLE service_keys (
    id TEXT NOT NULL PRIMARY KEY,
    service TEXT NOT NULL,
    org_id TEXT,
    role TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    revoked_by TEXT
) STRICT;
CREATE INDEX service_keys_service_index ON service_keys (service, created_at, id);

-- When somebody was last authenticated: kind is user, service or recipient.
CREATE TABLE last_auth (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;

-- What people and services changed. detail never holds a secret.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    org_id TEXT,
    principal_kind TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    request_id TEXT,
    detail TEXT
) STRICT;
CREATE INDEX audit_org_id_index ON audit (org_id, id DESC);
CREATE INDEX audit_at_index ON audit (at);

-- Rights that one process at a time has.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder BLOB NOT NULL,
    holder_name TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;

-- One-time tokens with which workers register, as keyed digests. recipient: the only one it may
-- register; may_replace: also where that one is registered already; used_*: who did, so that the same
-- request may be repeated.
CREATE TABLE registrations (
    digest BLOB NOT NULL PRIMARY KEY,
    org_id TEXT NOT NULL,
    recipient BLOB,
    name TEXT,
    labels TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    may_replace INTEGER NOT NULL,
    used_at INTEGER,
    used_by BLOB,
    used_key_digest BLOB
) STRICT;
CREATE INDEX registrations_org_id_index ON registrations (org_id);
CREATE INDEX registrations_expires_at_index ON registrations (expires_at);

-- labels are the operator's, facts the worker's. removed_at: its address stays its organisation's, since
-- runs name it.
ALTER TABLE recipients ADD COLUMN labels TEXT;
ALTER TABLE recipients ADD COLUMN facts TEXT;
ALTER TABLE recipients ADD COLUMN facts_at INTEGER;
ALTER TABLE recipients ADD COLUMN removed_at INTEGER;

-- NULL: no broker has it yet.
ALTER TABLE outbox ADD COLUMN published_at INTEGER;
CREATE INDEX outbox_unpublished_index ON outbox (id) WHERE published_at IS NULL;

-- What goes with a run, and what belongs to none and is old.
CREATE INDEX uploads_run_id_index ON uploads (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX uploads_settled_index ON uploads (created_at) WHERE state <> 'pending';
CREATE INDEX runs_final_index ON runs (updated_at, id) WHERE status <> 'running';

-- What is known of runs behind a Satellite and of their hosts (run_hosts.id; the nil UUID: of all
-- hosts), so that uploads come to the same end in whatever order. reported: the state last reported.
CREATE TABLE satellite_progress (
    run_id BLOB NOT NULL,
    host_id BLOB NOT NULL,
    reported TEXT,
    state TEXT NOT NULL,
    PRIMARY KEY (run_id, host_id)
) STRICT, WITHOUT ROWID;
