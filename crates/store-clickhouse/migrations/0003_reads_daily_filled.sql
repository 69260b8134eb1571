-- Fills the rollup while reads come in. Of reads of one second the first stored has the highest
-- version, as in the table of reads.
CREATE MATERIALIZED VIEW IF NOT EXISTS reads_daily_filled TO reads_daily AS
SELECT
    toDate(r.measured_at - 1 + {offset_s}, 'UTC') AS day,
    r.meter AS meter,
    r.register AS register,
    max((r.measured_at, r.version, r.count, r.exponent, r.unit, r.quality, r.stored_at)) AS last
FROM reads AS r
WHERE r.verdict = 0
GROUP BY day, meter, register
