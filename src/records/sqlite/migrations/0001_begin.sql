-- One row for each API that skep keeps or kept. The two generated columns are for people who look with a SQL shell:
-- they cannot disagree with the JSON that skep itself reads.
CREATE TABLE apis (
    id               TEXT PRIMARY KEY
        CHECK (length(id) BETWEEN 1 AND 40 AND id NOT GLOB '*[^a-z0-9-]*' AND id NOT GLOB '-*' AND id NOT GLOB '*-'),
    name             TEXT NOT NULL,
    sync             TEXT NOT NULL,
    health           TEXT NOT NULL,
    message          TEXT NOT NULL,
    serving_revision TEXT GENERATED ALWAYS AS (served ->> '$.revision') VIRTUAL,
    last_error       TEXT GENERATED ALWAYS AS (failures ->> '$[#-1].message') VIRTUAL,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    served           TEXT CHECK (served IS NULL OR json_valid(served)),
    failures         TEXT NOT NULL CHECK (json_valid(failures))
) STRICT;

-- Every revision that has served. Stays when the API goes, so that it can be brought back.
CREATE TABLE revisions (
    api      TEXT NOT NULL,
    revision TEXT NOT NULL,
    since    TEXT NOT NULL,
    served   TEXT NOT NULL CHECK (json_valid(served)),
    PRIMARY KEY (api, revision)
) STRICT;

CREATE INDEX revisions_by_time ON revisions (api, since);

-- The bytes of files, by the SHA-256 of them: each content once, however many revisions hold it.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

-- AUTOINCREMENT: a number is never given twice, also after old events were deleted.
CREATE TABLE events (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    at       TEXT NOT NULL,
    api      TEXT,
    revision TEXT,
    kind     TEXT NOT NULL,
    message  TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_api ON events (api, number);

-- Callers' keys; only their hashes.
CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    scope      TEXT NOT NULL CHECK (json_valid(scope)),
    created_at TEXT NOT NULL,
    revoked_at TEXT
) STRICT;

-- APIs whose removal somebody confirmed.
CREATE TABLE removals (
    api TEXT PRIMARY KEY
) STRICT;
