-- The two tables that Kafka Connect fills. A migration that has run anywhere is never edited: what comes later is a
-- file V2__..., and jdbc-sink refuses a database whose history differs from these files.
--
-- Columns are named as the fields of the Avro schemas, and typed so that nothing is lost on the way: an Avro double is
-- eight bytes here too, ids are text, times carry the precision that they were sent with. Names sort by their bytes: the
-- indexes then outlive an upgrade of the operating system's collations.

CREATE TABLE trades (
    instrument_name       text COLLATE "C" NOT NULL,
    trade_seq             bigint           NOT NULL,
    trade_id              text             NOT NULL,
    "timestamp"           timestamptz(3)   NOT NULL,
    price                 double precision NOT NULL,
    amount                double precision NOT NULL,
    index_price           double precision NOT NULL,
    direction             text             NOT NULL,
    tick_direction        integer          NOT NULL,
    received_at           timestamptz(6)   NOT NULL,
    mark_price            double precision,
    contracts             double precision,
    iv                    double precision,
    liquidation           text,
    block_trade_id        text,
    combo_id              text,
    combo_trade_id        text,
    block_trade_leg_count integer,
    block_rfq_id          bigint,
    -- What makes a replay harmless. Read backwards it gives an instrument's last trades.
    PRIMARY KEY (instrument_name, trade_seq)
);

-- An instrument's range of time.
CREATE INDEX trades_by_instrument_and_time ON trades (instrument_name, "timestamp");

-- All instruments of a minute. A block range index would be a thousandth of the size, but only while rows lie in the order of time,
-- which backfilled history does not.
CREATE INDEX trades_by_time ON trades ("timestamp");

COMMENT ON TABLE trades IS 'Every trade of the topic deribit.trades, once.';
COMMENT ON COLUMN trades.instrument_name IS 'As in BTC-PERPETUAL.';
COMMENT ON COLUMN trades.trade_seq IS 'Counts up by one within the instrument.';
COMMENT ON COLUMN trades.trade_id IS 'Unique within the currency, digits as the exchange wrote them.';
COMMENT ON COLUMN trades."timestamp" IS 'When it was traded, by the exchange''s clock.';
COMMENT ON COLUMN trades.price IS 'In the instrument''s quote currency.';
COMMENT ON COLUMN trades.amount IS 'USD for perpetuals and inverse futures, base coin for options and linear futures.';
COMMENT ON COLUMN trades.index_price IS 'Price of the underlying''s index at the trade.';
COMMENT ON COLUMN trades.direction IS 'The taker''s side: buy or sell.';
COMMENT ON COLUMN trades.tick_direction IS '0 plus, 1 zero-plus, 2 minus, 3 zero-minus.';
COMMENT ON COLUMN trades.received_at IS 'When it came to us, by our clock.';
COMMENT ON COLUMN trades.mark_price IS 'Mark price at the trade.';
COMMENT ON COLUMN trades.contracts IS 'Amount in contracts.';
COMMENT ON COLUMN trades.iv IS 'Implied volatility in percent, options only.';
COMMENT ON COLUMN trades.liquidation IS 'M, T or MT: maker, taker or both were liquidated.';
COMMENT ON COLUMN trades.block_trade_id IS 'The block trade that it was part of.';
COMMENT ON COLUMN trades.combo_id IS 'The combo instrument through which this leg traded.';
COMMENT ON COLUMN trades.combo_trade_id IS 'The combo''s own trade.';
COMMENT ON COLUMN trades.block_trade_leg_count IS 'Legs of the block trade.';
COMMENT ON COLUMN trades.block_rfq_id IS 'The request for quote that led to the block trade.';

CREATE TABLE moving_averages (
    instrument_name text COLLATE "C" NOT NULL,
    window_start    timestamptz(3)   NOT NULL,
    window_end      timestamptz(3)   NOT NULL,
    trade_count     bigint           NOT NULL,
    sma             double precision NOT NULL,
    ema             double precision NOT NULL,
    vwap            double precision NOT NULL,
    open            double precision NOT NULL,
    high            double precision NOT NULL,
    low             double precision NOT NULL,
    close           double precision NOT NULL,
    volume          double precision NOT NULL,
    -- Also an instrument's range of time and, read backwards, its last windows.
    PRIMARY KEY (instrument_name, window_start, window_end)
);

-- All instruments of a minute.
CREATE INDEX moving_averages_by_time ON moving_averages (window_end);

COMMENT ON TABLE moving_averages IS 'Every record of the topic deribit.moving-averages: one instrument over one window, [window_start, window_end).';
COMMENT ON COLUMN moving_averages.instrument_name IS 'As in BTC-PERPETUAL.';
COMMENT ON COLUMN moving_averages.window_start IS 'First millisecond of the window.';
COMMENT ON COLUMN moving_averages.window_end IS 'First millisecond after the window.';
COMMENT ON COLUMN moving_averages.trade_count IS 'Trades in the window, at least 1.';
COMMENT ON COLUMN moving_averages.sma IS 'Mean price.';
COMMENT ON COLUMN moving_averages.ema IS 'Mean price, each trade weighted by exp(-(window_end - timestamp) / tau).';
COMMENT ON COLUMN moving_averages.vwap IS 'Mean price weighted by amount; the sma where the volume is 0.';
COMMENT ON COLUMN moving_averages.open IS 'First price of the window.';
COMMENT ON COLUMN moving_averages.high IS 'Highest price.';
COMMENT ON COLUMN moving_averages.low IS 'Lowest price.';
COMMENT ON COLUMN moving_averages.close IS 'Last price of the window.';
COMMENT ON COLUMN moving_averages.volume IS 'Sum of amount.';
