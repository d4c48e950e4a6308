-- One row for each API that skep keeps or kept. The two generated columns are for people: they cannot disagree with the
-- JSON that skep itself reads.
CREATE TABLE apis (
    id               text PRIMARY KEY CHECK (id ~ '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'),
    name             text NOT NULL,
    sync             text NOT NULL,
    health           text NOT NULL,
    message          text NOT NULL,
    serving_revision text GENERATED ALWAYS AS (served ->> 'revision') STORED,
    last_error       text GENERATED ALWAYS AS (failures -> -1 ->> 'message') STORED,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    served           jsonb,
    failures         jsonb NOT NULL
);

-- Every revision that has served. Stays when the API goes, so that it can be brought back.
CREATE TABLE revisions (
    number   bigint GENERATED ALWAYS AS IDENTITY,
    api      text NOT NULL,
    revision text NOT NULL,
    since    timestamptz NOT NULL,
    served   jsonb NOT NULL,
    PRIMARY KEY (api, revision)
);

CREATE INDEX revisions_by_time ON revisions (api, since DESC, number DESC);

-- The bytes of files, by the SHA-256 of them: each content once, however many revisions hold it.
CREATE TABLE blobs (
    digest  text PRIMARY KEY,
    bytes   bytea NOT NULL,
    -- When it was last asked to be kept: what nothing refers to stays for a while, since it may be about to serve.
    kept_at timestamptz NOT NULL
);

CREATE TABLE events (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL,
    api      text,
    revision text,
    kind     text NOT NULL,
    message  text NOT NULL
);

CREATE INDEX events_by_api ON events (api, number);
CREATE INDEX events_by_time ON events (at);

-- Callers' keys; only their hashes.
CREATE TABLE keys (
    id         text PRIMARY KEY,
    hash       text NOT NULL UNIQUE,
    name       text NOT NULL,
    scope      jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    -- What it is good for: until when, which methods and paths, how often.
    terms      jsonb NOT NULL DEFAULT '{}',
    -- The hash of the first of the keys that it has followed by rotation.
    follows    text
);

-- When a key last let somebody in. By hash, since not all keys are in `keys`; apart from it, since it is no change that
-- a daemon must hear of.
CREATE TABLE key_uses (
    hash    text PRIMARY KEY,
    used_at timestamptz NOT NULL
);

-- APIs whose removal somebody confirmed.
CREATE TABLE removals (
    api text PRIMARY KEY
);

-- What a person asked to be left as it is. Apart from the API's row, which skep writes whole.
CREATE TABLE holds (
    api  text PRIMARY KEY,
    hold jsonb NOT NULL
);

-- Whose an API is: the id of a user, as in the `sub` of that user's tokens. Yours to fill; skep reads and writes none of it.
CREATE TABLE owners (
    api     text NOT NULL,
    user_id uuid NOT NULL,
    PRIMARY KEY (api, user_id)
);

CREATE INDEX owners_by_user ON owners (user_id);

-- Which daemon reconciles. `epoch` goes up with every other holder. Whoever writes as the holder locks this row against
-- another one until it has written.
CREATE TABLE lease (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    epoch    bigint NOT NULL,
    holder   text
);

-- Goes up with every sign of life of the holder; apart, so that a long write of its own does not keep it from giving one.
CREATE TABLE lease_beat (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    beat     bigint NOT NULL
);

INSERT INTO lease (epoch) VALUES (0);
INSERT INTO lease_beat (beat) VALUES (0);

-- The daemons that serve callers and do not reconcile.
CREATE TABLE followers (
    daemon text PRIMARY KEY,
    beat   bigint NOT NULL
);

-- Containers that are about to be removed: nobody sends them a new request.
CREATE TABLE leaving (
    container text PRIMARY KEY
);

-- The followers that have nothing to do with such a container any more.
CREATE TABLE let_go (
    container text NOT NULL REFERENCES leaving (container) ON DELETE CASCADE,
    daemon    text NOT NULL,
    PRIMARY KEY (container, daemon)
);

-- What callers have asked: a row for each span of time (of 60, 3600 or 86400 seconds, from `at`, in seconds since 1970),
-- API ('' where it is not told apart), caller (the id of a key, or `token`, `none`, `others`) and status. `micros` is what
-- all requests took together; `counts` says how many fell into each of `classes` of time. No change that a daemon must
-- hear of.
CREATE TABLE usage (
    span      integer NOT NULL CHECK (span IN (60, 3600, 86400)),
    at        bigint NOT NULL,
    api       text NOT NULL,
    caller    text NOT NULL,
    status    smallint NOT NULL,
    requests  bigint NOT NULL,
    bytes_in  bigint NOT NULL,
    bytes_out bigint NOT NULL,
    micros    bigint NOT NULL,
    slowest   bigint NOT NULL,
    classes   smallint[] NOT NULL,
    counts    bigint[] NOT NULL,
    PRIMARY KEY (span, at, api, caller, status)
);

CREATE INDEX usage_by_api ON usage (api, span, at);

-- What people call the keys that were used, also those that are revoked since, or declared elsewhere.
CREATE TABLE usage_keys (
    id   text PRIMARY KEY,
    name text NOT NULL
);

-- The last batch of each run of a daemon, so that none is added twice.
CREATE TABLE usage_batches (
    daemon text PRIMARY KEY,
    number bigint NOT NULL,
    at     bigint NOT NULL
);

-- How many changes each writer has made that a daemon must hear of; '' stands for people with a SQL shell.
CREATE TABLE changes (
    writer text PRIMARY KEY,
    count  bigint NOT NULL,
    at     timestamptz NOT NULL
);

-- Counts a change, and tells those who listen. With the rights of the tables' owner, whoever makes the change.
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    who text := coalesce(current_setting('skep.writer', true), '');
BEGIN
    IF EXISTS (SELECT FROM changed) THEN
        INSERT INTO changes AS c VALUES (who, 1, now())
            ON CONFLICT (writer) DO UPDATE SET count = c.count + 1, at = now();
        PERFORM pg_notify('skep', who);
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['apis', 'keys', 'removals', 'holds', 'leaving', 'let_go'] LOOP
        EXECUTE format('CREATE TRIGGER added AFTER INSERT ON %I REFERENCING NEW TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION note_change()', t);
        EXECUTE format('CREATE TRIGGER edited AFTER UPDATE ON %I REFERENCING NEW TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION note_change()', t);
        EXECUTE format('CREATE TRIGGER gone AFTER DELETE ON %I REFERENCING OLD TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION note_change()', t);
    END LOOP;
    -- That a container has left says nothing that a daemon does not see on the engine.
    DROP TRIGGER gone ON leaving;
    DROP TRIGGER gone ON let_go;
END
$$;

-- Who asks, as Supabase's API and PostgREST say it; NULL for everybody else. As `auth.uid()` there, and here also without
-- that schema; and of an issuer whose subjects are no UUIDs, nobody.
CREATE FUNCTION caller() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN sub ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN sub::uuid END
    FROM (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' AS sub) AS claims
$$;

-- Whether an API is of whoever asks.
CREATE FUNCTION is_owner(api text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM owners WHERE owners.api = is_owner.api AND owners.user_id = caller())
$$;

-- Nobody but the tables' owner sees a row, save where a policy lets the owner of an API see what is about it.
DO $$
DECLARE
    t text;
BEGIN
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    END LOOP;
END
$$;

CREATE POLICY own ON apis FOR SELECT USING (is_owner(id));
CREATE POLICY own ON revisions FOR SELECT USING (is_owner(api));
CREATE POLICY own ON events FOR SELECT USING (api IS NOT NULL AND is_owner(api));
CREATE POLICY own ON usage FOR SELECT USING (is_owner(api));
CREATE POLICY own ON holds FOR SELECT USING (is_owner(api));
CREATE POLICY own ON owners FOR SELECT USING (user_id = caller());

REVOKE ALL ON FUNCTION is_owner(text), note_change() FROM PUBLIC;

-- Supabase's role of people who have signed in. What is installed and set (which may hold secrets of the installation) is
-- not among the columns that it may read.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO authenticated', current_schema());
        GRANT EXECUTE ON FUNCTION is_owner(text), caller() TO authenticated;
        GRANT SELECT (id, name, sync, health, message, serving_revision, last_error, created_at, updated_at)
            ON apis TO authenticated;
        GRANT SELECT (number, api, revision, since) ON revisions TO authenticated;
        GRANT SELECT ON events, usage, owners TO authenticated;
        GRANT SELECT (api) ON holds TO authenticated;
    END IF;
END
$$;
