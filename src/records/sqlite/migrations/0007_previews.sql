-- The id of a preview has `--pr-` and up to seven digits behind that of an API. SQLite changes no check of a table that is there.
CREATE TABLE apis_anew (
    id               TEXT PRIMARY KEY
        CHECK (length(id) BETWEEN 1 AND 52 AND id NOT GLOB '*[^a-z0-9-]*' AND id NOT GLOB '-*' AND id NOT GLOB '*-'),
    name             TEXT NOT NULL,
    sync             TEXT NOT NULL,
    health           TEXT NOT NULL,
    message          TEXT NOT NULL,
    serving_revision TEXT GENERATED ALWAYS AS (served ->> '$.revision') VIRTUAL,
    last_error       TEXT GENERATED ALWAYS AS (failures ->> '$[#-1].message') VIRTUAL,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    served           TEXT CHECK (served IS NULL OR json_valid(served)),
    failures         TEXT NOT NULL CHECK (json_valid(failures)),
    written          TEXT
) STRICT;

INSERT INTO apis_anew (id, name, sync, health, message, created_at, updated_at, served, failures, written)
    SELECT id, name, sync, health, message, created_at, updated_at, served, failures, written FROM apis;

-- Its triggers go with it.
DROP TABLE apis;
ALTER TABLE apis_anew RENAME TO apis;

CREATE TRIGGER apis_added AFTER INSERT ON apis BEGIN
    INSERT INTO change_log (kind, name) VALUES ('apis', NEW.id);
END;
CREATE TRIGGER apis_changed AFTER UPDATE ON apis BEGIN
    INSERT INTO change_log (kind, name) VALUES ('apis', NEW.id);
    INSERT INTO change_log (kind, name) SELECT 'apis', OLD.id WHERE OLD.id IS NOT NEW.id;
END;
CREATE TRIGGER apis_gone AFTER DELETE ON apis BEGIN
    INSERT INTO change_log (kind, name) VALUES ('apis', OLD.id);
END;
