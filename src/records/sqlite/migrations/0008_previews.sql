-- The id of a preview has `--pr-` and up to seven digits behind that of an API. SQLite changes no check of a table that is there
-- but in its schema's own text (https://www.sqlite.org/lang_altertable.html#otheralter), which spares a copy of all rows.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'length(id) BETWEEN 1 AND 40', 'length(id) BETWEEN 1 AND 52')
    WHERE type = 'table' AND name = 'apis';
-- A change of the schema that all see, so that every connection reads it again; and so does this one.
CREATE VIEW widened AS SELECT 1;
DROP VIEW widened;
PRAGMA writable_schema = RESET;
