-- What the drain of the outbox needs: buckets to read by, partitions with owners, aggregates that are held back, dead
-- letters. Nobody writes the outbox while its key is rebuilt: about two seconds a million events.

-- The row stores the aggregate's hash; the buckets are a fixed cut of it, and only the drain maps them to partitions, so
-- that the number of partitions can change without a row being written.
ALTER TABLE outbox_events DROP CONSTRAINT outbox_events_pkey;
ALTER TABLE outbox_events ALTER COLUMN payload TYPE json;
ALTER TABLE outbox_events ADD COLUMN bucket smallint NOT NULL GENERATED ALWAYS AS ((aggregate_hash & 63)::smallint) STORED;
ALTER TABLE outbox_events ADD PRIMARY KEY (bucket, seq);
-- Type and id stand in keys of what follows, which PostgreSQL bounds.
ALTER TABLE outbox_events ADD CONSTRAINT outbox_events_aggregate
    CHECK (octet_length(aggregate_type) + octet_length(aggregate_id) <= 1024) NOT VALID;
-- Every row is deleted soon after it is written. Cleaning up often is cheap, since what is alive is little. Without
-- truncation, which would make those who enqueue wait: the table keeps the size of its largest backlog.
ALTER TABLE outbox_events SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, vacuum_truncate = off);
COMMENT ON COLUMN outbox_events.bucket IS 'Cut of the hash, by which the drain reads; partition = bucket modulo the number of partitions.';
COMMENT ON COLUMN outbox_events.payload IS 'The event''s body, kept to the letter.';

CREATE TABLE outbox_settings (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions   smallint NOT NULL DEFAULT 16 CHECK (partitions BETWEEN 1 AND 64),
    closed_until timestamptz NOT NULL DEFAULT 'epoch',
    hints_until  timestamptz NOT NULL DEFAULT 'epoch'
);
INSERT INTO outbox_settings DEFAULT VALUES;
COMMENT ON TABLE outbox_settings IS 'One row: how the outbox is drained.';
COMMENT ON COLUMN outbox_settings.only_row IS 'Always true.';
COMMENT ON COLUMN outbox_settings.partitions IS 'Into how many parts the drain is split; changed by outbox-drain partitions set.';
COMMENT ON COLUMN outbox_settings.closed_until IS 'Until then nobody takes a partition, and owners give theirs up: the number of partitions is being changed.';
COMMENT ON COLUMN outbox_settings.hints_until IS 'Until then a worker sleeps and wants to be told of new events.';

CREATE TABLE outbox_partitions (
    partition     smallint PRIMARY KEY CHECK (partition BETWEEN 0 AND 63),
    run_id        text,
    fencing_token bigint NOT NULL DEFAULT 0,
    expires_at    timestamptz NOT NULL DEFAULT 'epoch',
    floor         bigint NOT NULL DEFAULT 0,
    stream        text,
    acknowledged  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
INSERT INTO outbox_partitions (partition) SELECT generate_series(0, 63);
COMMENT ON TABLE outbox_partitions IS 'Who publishes which part of the outbox, and how far. Rows from outbox_settings.partitions up are not in use.';
COMMENT ON COLUMN outbox_partitions.partition IS 'From 0.';
COMMENT ON COLUMN outbox_partitions.run_id IS 'The owner, as in job_runs; null when given up.';
COMMENT ON COLUMN outbox_partitions.fencing_token IS 'Greater than that of every earlier owner; checked by every deletion, and by the sink where it can.';
COMMENT ON COLUMN outbox_partitions.expires_at IS 'When the partition is free again unless the owner renews, by the database''s clock.';
COMMENT ON COLUMN outbox_partitions.floor IS 'No event with this number or a lower one is to come or left, except of aggregates in outbox_held.';
COMMENT ON COLUMN outbox_partitions.stream IS 'The stream that the numbers belong to; null before the first.';
COMMENT ON COLUMN outbox_partitions.acknowledged IS 'Number (n) of the last event whose publication was acknowledged.';

CREATE TABLE outbox_held (
    aggregate_type  text NOT NULL,
    aggregate_id    text NOT NULL,
    bucket          smallint NOT NULL,
    seq             bigint NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    error           text,
    since           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (aggregate_type, aggregate_id)
);
CREATE INDEX outbox_held_bucket ON outbox_held (bucket, seq);
COMMENT ON TABLE outbox_held IS 'Aggregates whose events are held back, since one of them was rejected.';
COMMENT ON COLUMN outbox_held.aggregate_type IS 'What kind of thing.';
COMMENT ON COLUMN outbox_held.aggregate_id IS 'Which one.';
COMMENT ON COLUMN outbox_held.bucket IS 'As in outbox_events.';
COMMENT ON COLUMN outbox_held.seq IS 'The event to go on with: no earlier one of the aggregate is left.';
COMMENT ON COLUMN outbox_held.attempts IS 'How often it was rejected in a row.';
COMMENT ON COLUMN outbox_held.next_attempt_at IS 'When it is tried again, by the database''s clock; null: after redrive or discard of its dead letter.';
COMMENT ON COLUMN outbox_held.error IS 'Why it was rejected last.';
COMMENT ON COLUMN outbox_held.since IS 'When it was rejected first.';

CREATE TABLE outbox_dead_letters (
    event_id       uuid PRIMARY KEY,
    seq            bigint NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    aggregate_hash integer NOT NULL,
    brand_id       uuid NOT NULL,
    event_type     text NOT NULL,
    payload        json NOT NULL,
    occurred_at    timestamptz NOT NULL,
    attempts       integer NOT NULL,
    error          text NOT NULL,
    dead_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_dead_letters_aggregate ON outbox_dead_letters (aggregate_type, aggregate_id, seq);
COMMENT ON TABLE outbox_dead_letters IS 'Events that were given up, until somebody redrives or discards them.';
COMMENT ON COLUMN outbox_dead_letters.event_id IS 'As in outbox_events.';
COMMENT ON COLUMN outbox_dead_letters.seq IS 'As in outbox_events, to which a redrive returns it under the same number.';
COMMENT ON COLUMN outbox_dead_letters.aggregate_type IS 'What kind of thing changed.';
COMMENT ON COLUMN outbox_dead_letters.aggregate_id IS 'Which one.';
COMMENT ON COLUMN outbox_dead_letters.aggregate_hash IS 'As in outbox_events.';
COMMENT ON COLUMN outbox_dead_letters.brand_id IS 'The brand of the aggregate.';
COMMENT ON COLUMN outbox_dead_letters.event_type IS 'What happened.';
COMMENT ON COLUMN outbox_dead_letters.payload IS 'The event''s body.';
COMMENT ON COLUMN outbox_dead_letters.occurred_at IS 'When it happened.';
COMMENT ON COLUMN outbox_dead_letters.attempts IS 'How often it was tried.';
COMMENT ON COLUMN outbox_dead_letters.error IS 'Why it was rejected last.';
COMMENT ON COLUMN outbox_dead_letters.dead_at IS 'When it was given up.';

-- Runs of outbox-drain share the work by partition: several of them hold a lease at the same time.
ALTER TABLE job_leases ADD COLUMN shared boolean NOT NULL DEFAULT false;
ALTER TABLE job_leases DROP CONSTRAINT job_leases_pkey;
ALTER TABLE job_leases ADD PRIMARY KEY (fencing_token);
CREATE UNIQUE INDEX job_leases_exclusive ON job_leases (job, shard_count, shard_index) WHERE NOT shared;
CREATE INDEX job_leases_job ON job_leases (job);
COMMENT ON COLUMN job_leases.shared IS 'Other runs may hold one beside it.';
