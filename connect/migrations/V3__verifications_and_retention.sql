-- What `jdbc-sink verify` last found, for the service's metrics; and how far retention has deleted, which `verify` must know.

CREATE TABLE verifications (
    table_name  text COLLATE "C" NOT NULL PRIMARY KEY,
    finished_at timestamptz      NOT NULL DEFAULT now(),
    same        boolean          NOT NULL,
    records     bigint           NOT NULL
);

COMMENT ON TABLE verifications IS 'The last comparison of each table with its topic.';
COMMENT ON COLUMN verifications.table_name IS 'The table that was compared.';
COMMENT ON COLUMN verifications.finished_at IS 'When.';
COMMENT ON COLUMN verifications.same IS 'Whether it held what its topic holds.';
COMMENT ON COLUMN verifications.records IS 'How many records were compared.';

CREATE TABLE retention_cutoffs (
    table_name text COLLATE "C" NOT NULL PRIMARY KEY,
    cutoff     timestamptz      NOT NULL
);

COMMENT ON TABLE retention_cutoffs IS 'How far rows have been deleted because of retention.';
COMMENT ON COLUMN retention_cutoffs.table_name IS 'The table that they were deleted from.';
COMMENT ON COLUMN retention_cutoffs.cutoff IS 'Rows of an earlier time may be gone.';
