-- What a person asked to be left as it is. Apart from the API's row, which skep writes whole.
CREATE TABLE holds (
    api  TEXT PRIMARY KEY,
    hold TEXT NOT NULL CHECK (json_valid(hold))
) STRICT;

-- Which daemon reconciles. `epoch` goes up with every other holder, `beat` with every sign of life.
CREATE TABLE lease (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    epoch    INTEGER NOT NULL,
    holder   TEXT,
    beat     INTEGER NOT NULL
) STRICT;

INSERT INTO lease VALUES (1, 0, NULL, 0);

-- The daemons that serve callers and do not reconcile.
CREATE TABLE followers (
    daemon TEXT PRIMARY KEY,
    beat   INTEGER NOT NULL
) STRICT;

-- Containers that are about to be removed: nobody sends them a new request.
CREATE TABLE leaving (
    container TEXT PRIMARY KEY
) STRICT;

-- The followers that have nothing to do with such a container any more.
CREATE TABLE let_go (
    container TEXT NOT NULL REFERENCES leaving (container) ON DELETE CASCADE,
    daemon    TEXT NOT NULL,
    PRIMARY KEY (container, daemon)
) STRICT;

-- When a file was last asked to be kept: what nothing refers to stays for a while, since it may be about to serve.
ALTER TABLE blobs ADD COLUMN kept_at TEXT NOT NULL DEFAULT '1970-01-01T00:00:00.000000000Z';

-- Goes up with every change that a daemon must hear of, whoever makes it; signs of life are not among them.
CREATE TABLE changes (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    count    INTEGER NOT NULL
) STRICT;

INSERT INTO changes VALUES (1, 0);

CREATE TRIGGER apis_added     AFTER INSERT ON apis     BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER apis_changed   AFTER UPDATE ON apis     BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER apis_gone      AFTER DELETE ON apis     BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER keys_added     AFTER INSERT ON keys     BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER keys_changed   AFTER UPDATE ON keys     BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER keys_gone      AFTER DELETE ON keys     BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER removals_added AFTER INSERT ON removals BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER removals_gone  AFTER DELETE ON removals BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER holds_added    AFTER INSERT ON holds    BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER holds_changed  AFTER UPDATE ON holds    BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER holds_gone     AFTER DELETE ON holds    BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER leaving_added  AFTER INSERT ON leaving  BEGIN UPDATE changes SET count = count + 1; END;
CREATE TRIGGER let_go_added   AFTER INSERT ON let_go   BEGIN UPDATE changes SET count = count + 1; END;
