-- Where an event stands among all: the transaction that wrote it, then its number. Readers of the feed
-- look only at transactions before the oldest that still runs, so that nothing appears behind them.
-- Events that are there already come before all others.
ALTER TABLE outbox ADD COLUMN tx bigint NOT NULL DEFAULT 0;
ALTER TABLE outbox ALTER COLUMN tx SET DEFAULT (pg_current_xact_id()::text::bigint);

-- The last event that is kept no more.
CREATE TABLE outbox_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tx bigint NOT NULL,
    id bigint NOT NULL
);
INSERT INTO outbox_horizon (tx, id) VALUES (0, 0);
