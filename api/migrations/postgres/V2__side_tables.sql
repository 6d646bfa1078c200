-- What is ours, keyed by run id: a run without a row here has the defaults, so that rows written by
-- the original are whole. Documents are json, not jsonb: they are read whole, and jsonb refuses NUL.

CREATE TABLE run_work (
    run_id uuid PRIMARY KEY REFERENCES runs (id),
    recipient uuid NOT NULL,
    org_id varchar NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    state smallint NOT NULL,
    claim uuid,
    claimed_by text,
    lease_until timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    cancel_requested boolean NOT NULL DEFAULT false,
    canceled_by text,
    next_counter bigint NOT NULL DEFAULT 0,
    output_bytes bigint NOT NULL DEFAULT 0,
    outcome json,
    inputs json,
    sealed_secrets bytea
) WITH (fillfactor = 70);
-- Queues of recipients. The second is tiny: few runs per recipient are under way at a time.
CREATE INDEX run_work_active_index ON run_work (recipient, created_at, run_id) WHERE state < 3;
CREATE INDEX run_work_busy_index ON run_work (recipient) WHERE state IN (1, 2);

CREATE TABLE run_output (
    run_id uuid NOT NULL,
    start_byte bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (run_id, start_byte)
);

CREATE TABLE run_error (
    run_id uuid PRIMARY KEY,
    code text NOT NULL,
    details text NOT NULL
);

-- Runs that were or are being sent by a connector, until it is known what became of the message.
CREATE TABLE run_dispatch (
    run_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    ambiguous boolean NOT NULL DEFAULT false
);

CREATE TABLE run_sequence (
    run_id uuid PRIMARY KEY,
    last bigint NOT NULL
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    run_seq bigint NOT NULL,
    entity text NOT NULL,
    entity_id uuid NOT NULL,
    event_type text NOT NULL,
    org_id varchar NOT NULL,
    service varchar NOT NULL,
    status text NOT NULL,
    payload json NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT outbox_run_id_run_seq_key UNIQUE (run_id, run_seq)
);
CREATE INDEX outbox_created_at_index ON outbox (created_at);

CREATE TABLE idempotency (
    principal text NOT NULL,
    org_id varchar NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    status integer,
    body bytea,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (principal, org_id, key)
);
CREATE INDEX idempotency_expires_at_index ON idempotency (expires_at);

CREATE TABLE recipients (
    id uuid PRIMARY KEY,
    org_id varchar NOT NULL,
    name text NOT NULL,
    key_digest bytea,
    last_seen timestamptz,
    created_at timestamptz NOT NULL
);
CREATE INDEX recipients_org_id_name_index ON recipients (org_id, name COLLATE "C", id);

CREATE TABLE uploads (
    id uuid PRIMARY KEY,
    org_id varchar NOT NULL,
    run_id uuid,
    object text NOT NULL,
    size bigint NOT NULL,
    state text NOT NULL,
    reason text,
    attempt integer NOT NULL DEFAULT 0,
    claim uuid,
    lease_until timestamptz,
    created_at timestamptz NOT NULL
);
CREATE INDEX uploads_pending_index ON uploads (created_at, id) WHERE state = 'pending';
CREATE INDEX uploads_org_id_created_at_index ON uploads (org_id, created_at DESC, id);

CREATE TABLE playbooks (
    org_id varchar NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL,
    entry text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, name)
);
CREATE INDEX playbooks_org_id_sha256_index ON playbooks (org_id, sha256);
