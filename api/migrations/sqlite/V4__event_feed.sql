-- Where an event stands among all is its number: there is one writer.
CREATE INDEX outbox_feed_index ON outbox (org_id, id);

-- The last event that is kept no more.
CREATE TABLE outbox_horizon (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id INTEGER NOT NULL
) STRICT;
INSERT INTO outbox_horizon (only_row, id) VALUES (1, 0);
