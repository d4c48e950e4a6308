
-- How many requests each API has had since skep counts, also of usage that is forgotten; and how many of them a table of the
-- system before has been told of.
CREATE TABLE usage_totals (
    api      text PRIMARY KEY,
    requests bigint NOT NULL,
    mirrored bigint NOT NULL DEFAULT 0
);

INSERT INTO usage_totals (api, requests) SELECT api, sum(requests) FROM usage WHERE api <> '' GROUP BY api;

ALTER TABLE usage_totals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON usage_totals FOR SELECT USING (is_owner(api));

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
        GRANT SELECT (api, requests) ON usage_totals TO authenticated;
    END IF;
END
$$;
