-- The runner's own tables: one lease per job (and shard), a ledger of runs, counters that go on over runs.

CREATE SEQUENCE job_fencing_tokens;
COMMENT ON SEQUENCE job_fencing_tokens IS 'Every new lease takes the next number, so that an older holder is recognised.';

CREATE TABLE job_leases (
    job           text NOT NULL,
    shard_count   integer NOT NULL CHECK (shard_count > 0),
    shard_index   integer NOT NULL CHECK (shard_index >= 0 AND shard_index < shard_count),
    run_id        text NOT NULL,
    fencing_token bigint NOT NULL,
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (job, shard_count, shard_index)
);
COMMENT ON TABLE job_leases IS 'Who runs a job now. A row past expires_at is free. Shards of one split may run side by side; everything else excludes.';
COMMENT ON COLUMN job_leases.job IS 'Name of the job.';
COMMENT ON COLUMN job_leases.shard_count IS 'Into how many shards the run is split; 1 for a whole run.';
COMMENT ON COLUMN job_leases.shard_index IS 'Which shard, from 0.';
COMMENT ON COLUMN job_leases.run_id IS 'The holder, as in job_runs.';
COMMENT ON COLUMN job_leases.fencing_token IS 'Checked by every batch of the holder.';
COMMENT ON COLUMN job_leases.expires_at IS 'By the database''s clock.';

CREATE TABLE job_runs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id       text NOT NULL,
    job          text NOT NULL,
    shard_count  integer NOT NULL,
    shard_index  integer NOT NULL,
    trigger      text NOT NULL CHECK (trigger IN ('schedule', 'manual', 'local')),
    dry_run      boolean NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz,
    outcome      text CHECK (outcome IN ('done', 'nothing_to_do', 'already_running', 'upstream_down', 'capped', 'stopped', 'failed', 'lost')),
    scanned      bigint NOT NULL DEFAULT 0,
    changed      bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,
    remaining    bigint NOT NULL DEFAULT 0,
    details      jsonb NOT NULL DEFAULT '{}',
    note         text,
    error        text,
    CONSTRAINT job_runs_ended_with_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX job_runs_latest ON job_runs (job, id DESC);
CREATE INDEX job_runs_open ON job_runs (job) WHERE ended_at IS NULL;
CREATE INDEX job_runs_success ON job_runs (job, ended_at DESC) WHERE outcome IN ('done', 'nothing_to_do') AND NOT dry_run;
COMMENT ON TABLE job_runs IS 'Ledger of runs. Counters are written with every checkpoint, so that a killed run''s work is told too.';
COMMENT ON COLUMN job_runs.id IS 'Order of starting.';
COMMENT ON COLUMN job_runs.run_id IS 'RUN_ID (the Job''s uid in a cluster: the tries of one Job share it), else a UUIDv7.';
COMMENT ON COLUMN job_runs.job IS 'Name of the job.';
COMMENT ON COLUMN job_runs.shard_count IS 'Into how many shards the run was split; 1 for a whole run.';
COMMENT ON COLUMN job_runs.shard_index IS 'Which shard, from 0.';
COMMENT ON COLUMN job_runs.trigger IS 'schedule, manual or local.';
COMMENT ON COLUMN job_runs.dry_run IS 'The run wrote nothing but this row.';
COMMENT ON COLUMN job_runs.version IS 'Version and revision of the binary.';
COMMENT ON COLUMN job_runs.started_at IS 'By the database''s clock.';
COMMENT ON COLUMN job_runs.heartbeat_at IS 'Last sign of life while it ran.';
COMMENT ON COLUMN job_runs.ended_at IS 'Null while it runs.';
COMMENT ON COLUMN job_runs.outcome IS 'How it ended; lost: it died and the next run closed the row.';
COMMENT ON COLUMN job_runs.scanned IS 'Items looked at.';
COMMENT ON COLUMN job_runs.changed IS 'Items changed.';
COMMENT ON COLUMN job_runs.skipped IS 'Items left for the next run.';
COMMENT ON COLUMN job_runs.failed IS 'Items that are permanently bad.';
COMMENT ON COLUMN job_runs.remaining IS 'Items that were due and not reached.';
COMMENT ON COLUMN job_runs.details IS 'Further counters of this job.';
COMMENT ON COLUMN job_runs.note IS 'What an operator should know or do next.';
COMMENT ON COLUMN job_runs.error IS 'Why it failed.';

CREATE TABLE job_counters (
    job    text NOT NULL,
    shard  text NOT NULL,
    metric text NOT NULL,
    labels text NOT NULL,
    value  bigint NOT NULL CHECK (value >= 0),
    PRIMARY KEY (job, shard, metric, labels)
);
COMMENT ON TABLE job_counters IS 'Totals of the …_total metrics: each run adds with every checkpoint, so that increase() over many short runs is right.';
COMMENT ON COLUMN job_counters.job IS 'Name of the job.';
COMMENT ON COLUMN job_counters.shard IS 'Shard label of the pushed group; empty for a whole run.';
COMMENT ON COLUMN job_counters.metric IS 'Metric name.';
COMMENT ON COLUMN job_counters.labels IS 'Label values in the metric''s order, joined by commas.';
COMMENT ON COLUMN job_counters.value IS 'The total so far.';

CREATE TABLE job_cursors (
    job        text NOT NULL,
    name       text NOT NULL,
    position   jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job, name)
);
COMMENT ON TABLE job_cursors IS 'Where a pass over a table goes on; saved in the transaction of the batch it stands behind.';
COMMENT ON COLUMN job_cursors.job IS 'Name of the job.';
COMMENT ON COLUMN job_cursors.name IS 'Which pass.';
COMMENT ON COLUMN job_cursors.position IS 'The last key done.';
COMMENT ON COLUMN job_cursors.updated_at IS 'When it moved last.';
