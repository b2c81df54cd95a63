-- What was decided about each record that Kafka Connect could not convert, and how far its dead-letter topics have been read. Both are
-- written in one transaction with the row that was brought back, so that a letter is decided once whatever ends in between.

CREATE TABLE dead_letters (
    topic      text COLLATE "C" NOT NULL,
    partition  integer          NOT NULL,
    "offset"   bigint           NOT NULL,
    reason     text             NOT NULL,
    detail     text             NOT NULL,
    decided_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);

COMMENT ON TABLE dead_letters IS 'Every record that Kafka Connect could not convert, by its place in its own topic.';
COMMENT ON COLUMN dead_letters.topic IS 'The topic that the record is in.';
COMMENT ON COLUMN dead_letters.partition IS 'Its partition there.';
COMMENT ON COLUMN dead_letters."offset" IS 'Its offset there.';
COMMENT ON COLUMN dead_letters.reason IS 'brought_back: it is good and has its row; anything else: why it has none.';
COMMENT ON COLUMN dead_letters.detail IS 'The same in words.';
COMMENT ON COLUMN dead_letters.decided_at IS 'When it was decided.';

CREATE TABLE dead_letter_positions (
    topic       text COLLATE "C" NOT NULL,
    partition   integer          NOT NULL,
    next_offset bigint           NOT NULL,
    PRIMARY KEY (topic, partition)
);

COMMENT ON TABLE dead_letter_positions IS 'How far each dead-letter topic has been read; without a row it is read, and judged, from its beginning.';
COMMENT ON COLUMN dead_letter_positions.topic IS 'The dead-letter topic.';
COMMENT ON COLUMN dead_letter_positions.partition IS 'Its partition.';
COMMENT ON COLUMN dead_letter_positions.next_offset IS 'The first offset that has not been decided.';
