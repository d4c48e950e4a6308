-- What skep last wrote into the columns of a row that people may edit: what is another there by now is drift. NULL in a row
-- that skep did not write. What is there already is taken for skep's own.
ALTER TABLE apis ADD COLUMN written TEXT;

UPDATE apis SET written = json_object('name', name, 'sync', sync, 'health', health, 'message', message,
    'served', json(served), 'failures', json(failures));
