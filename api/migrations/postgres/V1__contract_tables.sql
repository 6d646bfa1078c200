-- The tables of Playbook Dispatcher, exactly as its own sixteen migrations leave them (contract,
-- section 3): its programs, Debezium and dumps work on them. They never get a column of ours. On a
-- database that it has made, this migration is noted as applied and not run.

CREATE TYPE runs_status AS ENUM ('running', 'success', 'failure', 'timeout', 'canceled');

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    recipient uuid NOT NULL,
    correlation_id uuid NOT NULL,
    url varchar NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    status runs_status NOT NULL DEFAULT 'running',
    events jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    timeout integer NOT NULL,
    service varchar NOT NULL DEFAULT 'unknown',
    org_id varchar NOT NULL DEFAULT 'unknown',
    response_full boolean NOT NULL DEFAULT true,
    playbook_name varchar,
    playbook_run_url varchar,
    principal varchar,
    sat_org_id varchar,
    sat_id uuid
);
CREATE INDEX runs_labels_index ON runs USING gin (labels jsonb_path_ops);
CREATE INDEX runs_org_id_index ON runs (org_id);
CREATE INDEX runs_org_id_correlation_id_run_id_index ON runs (org_id, correlation_id, id);
ALTER TABLE runs REPLICA IDENTITY FULL;

CREATE TABLE run_hosts (
    id uuid PRIMARY KEY,
    run_id uuid REFERENCES runs (id),
    inventory_id uuid,
    host varchar NOT NULL,
    status runs_status NOT NULL DEFAULT 'running',
    log text NOT NULL DEFAULT '',
    events jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sat_sequence smallint,
    subscription_manager_id uuid,
    CONSTRAINT run_hosts_run_id_host_key UNIQUE (run_id, host)
);

-- The bookkeeping of the original, so that its own migration command finds nothing to do.
CREATE TABLE schema_migrations (
    version bigint PRIMARY KEY,
    dirty boolean NOT NULL
);
INSERT INTO schema_migrations (version, dirty) VALUES (16, false);
