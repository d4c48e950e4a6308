-- What callers have asked: a row for each span of time (of 60, 3600 or 86400 seconds, from `at`, in seconds since 1970),
-- API ('' where it is not told apart), caller (the id of a key, or `token`, `none`, `others`) and status. `micros` is what
-- all requests took together, `spread` how many took how long. No change that a daemon must hear of.
CREATE TABLE usage (
    span      INTEGER NOT NULL CHECK (span IN (60, 3600, 86400)),
    at        INTEGER NOT NULL,
    api       TEXT NOT NULL,
    caller    TEXT NOT NULL,
    status    INTEGER NOT NULL,
    requests  INTEGER NOT NULL,
    bytes_in  INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    micros    INTEGER NOT NULL,
    slowest   INTEGER NOT NULL,
    spread    BLOB NOT NULL,
    PRIMARY KEY (span, at, api, caller, status)
) STRICT, WITHOUT ROWID;

-- What people call the keys that were used, also those that are revoked since, or declared elsewhere.
CREATE TABLE usage_keys (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The last batch of each run of a daemon, so that none is added twice.
CREATE TABLE usage_batches (
    daemon TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
