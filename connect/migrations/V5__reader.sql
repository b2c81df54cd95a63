-- A role for people and dashboards: it reads what is here and what later migrations make, and writes nothing. It has no login of its own;
-- CREATE ROLE alice LOGIN PASSWORD '...' IN ROLE kstream_reader gives somebody one. Roles belong to all databases of a server, so that
-- another database of ours, or an administrator, may have made it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kstream_reader') THEN
        CREATE ROLE kstream_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

GRANT USAGE ON SCHEMA public TO kstream_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO kstream_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO kstream_reader;
