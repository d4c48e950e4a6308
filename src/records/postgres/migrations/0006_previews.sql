-- The id of a preview has `--pr-` and up to seven digits behind that of an API.
ALTER TABLE apis DROP CONSTRAINT apis_id_check;
ALTER TABLE apis ADD CONSTRAINT apis_id_check CHECK (id ~ '^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$');
