-- What people ask of the tables so often that it has a name. Views hold nothing: they cost what their queries cost.

-- The first price of a minute is that of its lowest sequence number, as times repeat.
CREATE VIEW trades_by_minute AS
SELECT instrument_name,
       date_bin('1 minute', "timestamp", TIMESTAMPTZ '1970-01-01 00:00:00+00') AS minute,
       (array_agg(price ORDER BY trade_seq))[1]                                AS open,
       max(price)                                                              AS high,
       min(price)                                                              AS low,
       (array_agg(price ORDER BY trade_seq DESC))[1]                           AS close,
       sum(amount)                                                             AS volume,
       count(*)                                                                AS trade_count
FROM trades
GROUP BY instrument_name, minute;

COMMENT ON VIEW trades_by_minute IS 'Open, high, low, close and volume of each instrument and minute that has trades. Ask for an instrument: its trades alone are read then.';
COMMENT ON COLUMN trades_by_minute.minute IS 'First instant of the minute, UTC.';

-- From one instrument to the next by the primary key: DISTINCT ON would read all of the table.
CREATE VIEW last_averages AS
WITH RECURSIVE instruments (instrument_name) AS (
    (SELECT instrument_name FROM moving_averages ORDER BY instrument_name LIMIT 1)
    UNION ALL
    SELECT (SELECT a.instrument_name FROM moving_averages a WHERE a.instrument_name > i.instrument_name ORDER BY a.instrument_name LIMIT 1)
    FROM instruments i
    WHERE i.instrument_name IS NOT NULL
)
SELECT last.*
FROM instruments i
CROSS JOIN LATERAL (
    SELECT a.*
    FROM moving_averages a
    WHERE a.instrument_name = i.instrument_name
    ORDER BY a.window_start DESC, a.window_end DESC
    LIMIT 1
) last;

COMMENT ON VIEW last_averages IS 'The newest window of each instrument.';

-- The newest window that had ended by the time of the trade: what was known when it was made.
CREATE VIEW trades_with_averages AS
SELECT t.instrument_name,
       t.trade_seq,
       t."timestamp",
       t.price,
       t.amount,
       t.direction,
       a.window_start,
       a.window_end,
       a.sma,
       a.ema,
       a.vwap
FROM trades t
LEFT JOIN LATERAL (
    SELECT m.window_start, m.window_end, m.sma, m.ema, m.vwap
    FROM moving_averages m
    WHERE m.instrument_name = t.instrument_name
      AND m.window_start < t."timestamp"
      AND m.window_end <= t."timestamp"
    ORDER BY m.window_start DESC, m.window_end DESC
    LIMIT 1
) a ON true;

COMMENT ON VIEW trades_with_averages IS 'Each trade beside the averages of the newest window that had ended by then; without any, these are null.';
