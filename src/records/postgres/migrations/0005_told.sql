-- What whoever reconciles has told others, and has still to tell.
CREATE TABLE told (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    text     text NOT NULL
);

ALTER TABLE told ENABLE ROW LEVEL SECURITY;
