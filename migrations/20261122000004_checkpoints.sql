-- What makes the end of a batch certain, and an idle sweep short.
-- Building the index lets nobody write eve_characters meanwhile: about a second a million.

ALTER TABLE job_runs ADD COLUMN checkpoints bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN job_runs.checkpoints IS 'Checkpoints written. A run whose COMMIT was never answered reads here whether it took place.';

-- Behind the cutoff nobody is due but them, and a sweep that finds nothing must not read everybody to know it.
CREATE INDEX eve_characters_attempted ON eve_characters (sweep_key, eve_id)
    WHERE last_verified_at IS NULL OR last_attempted_at > last_verified_at;
