-- Which rows were written, by each writer in the order of its changes: a daemon reads again what has changed, and not all of it.
-- `names` are ids of rows of `kind`; NULL where they are too many to be named, and all must be read.
CREATE TABLE change_log (
    writer text NOT NULL,
    number bigint NOT NULL,
    at     timestamptz NOT NULL,
    kind   text NOT NULL,
    names  text[],
    PRIMARY KEY (writer, number)
);

ALTER TABLE change_log ENABLE ROW LEVEL SECURITY;

-- Counts a change, writes down what it touched, and tells those who listen. With the rights of the tables' owner, whoever makes
-- the change. The row of its writer in `changes` is locked until the change is committed, so that no number is seen before a
-- lower one of the same writer.
CREATE OR REPLACE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    most CONSTANT bigint := 1000;
    who text := coalesce(current_setting('skep.writer', true), '');
    touched text[];
    place bigint;
BEGIN
    -- Each in a branch of its own: what a statement names must be there only where it runs.
    IF TG_OP = 'TRUNCATE' THEN
        touched := NULL;
    ELSIF TG_TABLE_NAME IN ('apis', 'keys') THEN
        IF TG_OP = 'UPDATE' THEN
            touched := ARRAY(SELECT id FROM changed UNION SELECT id FROM was LIMIT most + 1);
        ELSE
            touched := ARRAY(SELECT id FROM changed LIMIT most + 1);
        END IF;
    ELSIF TG_TABLE_NAME IN ('removals', 'holds') THEN
        IF TG_OP = 'UPDATE' THEN
            touched := ARRAY(SELECT api FROM changed UNION SELECT api FROM was LIMIT most + 1);
        ELSE
            touched := ARRAY(SELECT api FROM changed LIMIT most + 1);
        END IF;
    ELSE
        touched := ARRAY(SELECT container FROM changed LIMIT most + 1);
    END IF;
    IF cardinality(touched) = 0 THEN
        RETURN NULL;
    END IF;
    IF cardinality(touched) > most THEN
        touched := NULL;
    END IF;
    INSERT INTO changes AS c VALUES (who, 1, now())
        ON CONFLICT (writer) DO UPDATE SET count = c.count + 1, at = now()
        RETURNING count INTO place;
    INSERT INTO change_log VALUES (who, place, now(), TG_TABLE_NAME, touched)
        ON CONFLICT (writer, number) DO UPDATE SET at = now(), kind = excluded.kind, names = NULL;
    PERFORM pg_notify('skep', who);
    RETURN NULL;
END
$$;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['apis', 'keys', 'removals', 'holds'] LOOP
        EXECUTE format('DROP TRIGGER edited ON %I', t);
        EXECUTE format('CREATE TRIGGER edited AFTER UPDATE ON %I REFERENCING OLD TABLE AS was NEW TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION note_change()', t);
        EXECUTE format('CREATE TRIGGER emptied AFTER TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION note_change()', t);
    END LOOP;
END
$$;
