-- Which rows were written, in order: a daemon reads again what has changed, and not all of it. `mark` tells an entry from another
-- one of the same number, as after a restore from a backup.
CREATE TABLE change_log (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mark   INTEGER NOT NULL DEFAULT (random()),
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL
) STRICT;

INSERT INTO change_log (number, kind, name) SELECT count + 1, 'begin', '' FROM changes;
UPDATE changes SET count = count + 1;

DROP TRIGGER apis_added;
DROP TRIGGER apis_changed;
DROP TRIGGER apis_gone;
DROP TRIGGER keys_added;
DROP TRIGGER keys_changed;
DROP TRIGGER keys_gone;
DROP TRIGGER removals_added;
DROP TRIGGER removals_gone;
DROP TRIGGER holds_added;
DROP TRIGGER holds_changed;
DROP TRIGGER holds_gone;
DROP TRIGGER leaving_added;
DROP TRIGGER let_go_added;

CREATE TRIGGER counted AFTER INSERT ON change_log BEGIN UPDATE changes SET count = NEW.number; END;

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
CREATE TRIGGER keys_added AFTER INSERT ON keys BEGIN
    INSERT INTO change_log (kind, name) VALUES ('keys', NEW.id);
END;
CREATE TRIGGER keys_changed AFTER UPDATE ON keys BEGIN
    INSERT INTO change_log (kind, name) VALUES ('keys', NEW.id);
    INSERT INTO change_log (kind, name) SELECT 'keys', OLD.id WHERE OLD.id IS NOT NEW.id;
END;
-- `OR REPLACE` takes a key away that has the same hash, and calls no other trigger for it.
CREATE TRIGGER keys_replaced BEFORE INSERT ON keys BEGIN
    INSERT INTO change_log (kind, name) SELECT 'keys', id FROM keys WHERE hash = NEW.hash AND id IS NOT NEW.id;
END;
CREATE TRIGGER keys_displaced BEFORE UPDATE OF hash ON keys BEGIN
    INSERT INTO change_log (kind, name) SELECT 'keys', id FROM keys WHERE hash = NEW.hash AND id IS NOT OLD.id;
END;
CREATE TRIGGER keys_gone AFTER DELETE ON keys BEGIN
    INSERT INTO change_log (kind, name) VALUES ('keys', OLD.id);
END;
CREATE TRIGGER removals_added AFTER INSERT ON removals BEGIN
    INSERT INTO change_log (kind, name) VALUES ('removals', NEW.api);
END;
CREATE TRIGGER removals_gone AFTER DELETE ON removals BEGIN
    INSERT INTO change_log (kind, name) VALUES ('removals', OLD.api);
END;
CREATE TRIGGER holds_added AFTER INSERT ON holds BEGIN
    INSERT INTO change_log (kind, name) VALUES ('holds', NEW.api);
END;
CREATE TRIGGER holds_changed AFTER UPDATE ON holds BEGIN
    INSERT INTO change_log (kind, name) VALUES ('holds', NEW.api);
    INSERT INTO change_log (kind, name) SELECT 'holds', OLD.api WHERE OLD.api IS NOT NEW.api;
END;
CREATE TRIGGER holds_gone AFTER DELETE ON holds BEGIN
    INSERT INTO change_log (kind, name) VALUES ('holds', OLD.api);
END;
CREATE TRIGGER leaving_added AFTER INSERT ON leaving BEGIN
    INSERT INTO change_log (kind, name) VALUES ('leaving', NEW.container);
END;
CREATE TRIGGER let_go_added AFTER INSERT ON let_go BEGIN
    INSERT INTO change_log (kind, name) VALUES ('let_go', NEW.container);
END;

-- It stood in for what a daemon of before `written` did not write, and took the edit of a hand that also changed the time for that.
-- What such a daemon writes until it ends is taken for an edit now: what was written before it holds, until the tree is read.
DROP TRIGGER written;
