-- What skep last wrote into the columns of a row that people may edit: what is another there by now is drift. NULL in a row
-- that skep did not write. What is there already is taken for skep's own.
ALTER TABLE apis ADD COLUMN written TEXT;

-- A daemon of before this, which another one will soon take over from, writes without it. Each write of skep's has a time of its
-- own; whoever edits a row by hand leaves that as it is.
CREATE TRIGGER written AFTER UPDATE ON apis
    WHEN NEW.updated_at IS NOT OLD.updated_at AND NEW.written IS OLD.written
BEGIN
    UPDATE apis SET written = json_object('name', NEW.name, 'sync', NEW.sync, 'health', NEW.health,
        'message', NEW.message, 'served', json(NEW.served), 'failures', json(NEW.failures), 'created_at', NEW.created_at) WHERE id = NEW.id;
END;

UPDATE apis SET written = json_object('name', name, 'sync', sync, 'health', health, 'message', message,
    'served', json(served), 'failures', json(failures), 'created_at', created_at);
