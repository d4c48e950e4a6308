-- What a key is good for: until when, which methods and paths, how often.
ALTER TABLE keys ADD COLUMN terms TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(terms));

-- The hash of the first of the keys that a key has followed by rotation.
ALTER TABLE keys ADD COLUMN follows TEXT;

-- When a key last let somebody in. By hash, since not all keys are in `keys`; apart from it, since it is no change that
-- a daemon must hear of.
CREATE TABLE key_uses (
    hash    TEXT PRIMARY KEY,
    used_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
