-- The contract's two tables: the columns of PostgreSQL, in SQLite's types (uuid: 16 bytes, time:
-- microseconds of UTC, json: text, bool: 0 or 1). Long columns stand last, since SQLite reads a row
-- from its front.

CREATE TABLE runs (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    recipient BLOB NOT NULL,
    correlation_id BLOB NOT NULL,
    status TEXT NOT NULL DEFAULT 'running'
        CHECK (status IN ('running', 'success', 'failure', 'timeout', 'canceled')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    timeout INTEGER NOT NULL,
    service TEXT NOT NULL DEFAULT 'unknown',
    org_id TEXT NOT NULL DEFAULT 'unknown',
    response_full INTEGER NOT NULL DEFAULT 1,
    sat_id BLOB,
    sat_org_id TEXT,
    principal TEXT,
    playbook_name TEXT,
    url TEXT NOT NULL,
    playbook_run_url TEXT,
    labels TEXT NOT NULL DEFAULT '{}',
    events TEXT NOT NULL DEFAULT '[]'
) STRICT;

-- Lists: an organisation's runs in the default order (the other order sorts only ties). What most
-- filters look at comes along, so that totals are counted without reading rows.
CREATE INDEX runs_org_id_created_at_id_index
    ON runs (org_id, created_at DESC, id, status, timeout, service);
-- Uploads find their run by it.
CREATE INDEX runs_org_id_correlation_id_run_id_index ON runs (org_id, correlation_id, id);
-- The cleaner finds expired runs by it.
CREATE INDEX runs_running_expires_index ON runs (created_at + timeout * 1000000)
    WHERE status = 'running';

CREATE TABLE run_hosts (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    run_id BLOB REFERENCES runs (id),
    inventory_id BLOB,
    status TEXT NOT NULL DEFAULT 'running'
        CHECK (status IN ('running', 'success', 'failure', 'timeout', 'canceled')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    sat_sequence INTEGER,
    subscription_manager_id BLOB,
    host TEXT NOT NULL,
    events TEXT NOT NULL DEFAULT '[]',
    log TEXT NOT NULL DEFAULT '',
    CONSTRAINT run_hosts_run_id_host_key UNIQUE (run_id, host)
) STRICT;
