-- What whoever reconciles has told others, and has still to tell.
CREATE TABLE told (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    text     TEXT NOT NULL
) STRICT;
