-- A run bills one cycle and is a function of its cutoff and its rates (decision 10): an
-- interrupted run is taken up again with the cutoff it began with, or abandoned when the rates
-- are no longer the same. `attempt` fences: whoever
-- takes a run up raises it, and a writer that was thought dead can write no more.
CREATE TABLE bill_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cycle_id bigint NOT NULL REFERENCES cycles,
    cutoff timestamptz NOT NULL,
    rates_hash bytea NOT NULL CHECK (length(rates_hash) = 32),
    state text NOT NULL CHECK (state IN ('running', 'finished', 'abandoned')),
    attempt integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    active bigint,
    billed bigint,
    held bigint,
    excused bigint,
    CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT finished_run_leaves_nobody_out CHECK (
        state <> 'finished' OR (active IS NOT NULL AND active = billed + held + excused))
);
CREATE UNIQUE INDEX one_running_run_per_cycle ON bill_runs (cycle_id) WHERE state = 'running';
CREATE INDEX runs_of_a_cycle ON bill_runs (cycle_id, id);
