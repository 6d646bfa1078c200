-- What is ours, beside the contract's tables; an absent row means defaults.

-- Runs of our workers: who may execute them, and how far they are. state: 0 pending, 1 claimed,
-- 2 started, 3 done.
CREATE TABLE run_work (
    run_id BLOB NOT NULL PRIMARY KEY REFERENCES runs (id),
    recipient BLOB NOT NULL,
    org_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    claim BLOB,
    claimed_by TEXT,
    lease_until INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    canceled_by TEXT,
    next_counter INTEGER NOT NULL DEFAULT 0,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,
    inputs TEXT,
    sealed_secrets BLOB
) STRICT;
-- Queues of recipients. The second is tiny: few runs per recipient are under way at a time.
CREATE INDEX run_work_open_index ON run_work (recipient, created_at, run_id) WHERE state < 3;
CREATE INDEX run_work_busy_index ON run_work (recipient) WHERE state IN (1, 2);

-- What runs of our workers printed, once per run, in pieces.
CREATE TABLE run_output (
    run_id BLOB NOT NULL REFERENCES runs (id),
    start_byte INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run_id, start_byte)
) STRICT;

-- Why a run could not be carried out.
CREATE TABLE run_error (
    run_id BLOB NOT NULL PRIMARY KEY REFERENCES runs (id),
    code TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;

-- Runs that a connector is sending, or of which nobody knows whether they were delivered.
CREATE TABLE run_dispatch (
    run_id BLOB NOT NULL PRIMARY KEY REFERENCES runs (id),
    created_at INTEGER NOT NULL,
    ambiguous INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The number of the last event of each run.
CREATE TABLE run_sequence (
    run_id BLOB NOT NULL PRIMARY KEY REFERENCES runs (id),
    last INTEGER NOT NULL
) STRICT;

-- Changes that consumers are told of.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id BLOB NOT NULL,
    run_seq INTEGER NOT NULL,
    entity TEXT NOT NULL CHECK (entity IN ('run', 'run_host')),
    entity_id BLOB NOT NULL,
    event_type TEXT NOT NULL,
    org_id TEXT NOT NULL,
    service TEXT NOT NULL,
    status TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (run_id, run_seq)
) STRICT;
CREATE INDEX outbox_created_at_index ON outbox (created_at);

-- Requests that may be repeated, with their answers.
CREATE TABLE idempotency (
    principal TEXT NOT NULL,
    org_id TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    status INTEGER,
    body BLOB,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (principal, org_id, key)
) STRICT;
CREATE INDEX idempotency_expires_at_index ON idempotency (expires_at);

CREATE TABLE recipients (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    key_digest BLOB,
    last_seen INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX recipients_org_id_name_id_index ON recipients (org_id, name, id);

-- Archives that foreign hosts sent, and what became of them.
CREATE TABLE uploads (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id TEXT NOT NULL,
    run_id BLOB,
    object TEXT NOT NULL,
    size INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'applied', 'invalid', 'poisoned')),
    reason TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    claim BLOB,
    lease_until INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX uploads_org_id_created_at_id_index ON uploads (org_id, created_at DESC, id);
CREATE INDEX uploads_pending_index ON uploads (created_at, id) WHERE state = 'pending';

-- Names that point at content in the object store.
CREATE TABLE playbooks (
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    size INTEGER NOT NULL,
    entry TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, name)
) STRICT;
CREATE INDEX playbooks_org_id_sha256_index ON playbooks (org_id, sha256);
