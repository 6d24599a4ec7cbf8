-- Jobs from acceptance on, and what is left of each when it has ended.
CREATE TABLE jobs (
    number      INTEGER PRIMARY KEY AUTOINCREMENT, -- order of acceptance
    id          TEXT    NOT NULL UNIQUE,
    owner       BLOB    NOT NULL,                  -- SHA-256 of the owner's token
    state       TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'failed', 'cancelled', 'expired')),
    attempt     INTEGER NOT NULL DEFAULT 0,        -- starts of the program that the job waited through
    crashes     INTEGER NOT NULL DEFAULT 0,        -- ends of the program while the job was running
    created_ms  INTEGER NOT NULL,                  -- since 1970, UTC
    stays       INTEGER NOT NULL,                  -- whether it outlives its viewers while it waits
    example     INTEGER NOT NULL,                  -- whether it is the server's own
    model       TEXT    NOT NULL,
    request     TEXT    NOT NULL,                  -- JSON, model and seed filled in
    class_name  TEXT    NOT NULL,
    plan_name   TEXT,
    patch_nums  TEXT    NOT NULL,                  -- JSON
    image_size  INTEGER NOT NULL,
    ended       INTEGER UNIQUE,                    -- order of ending; absent while unfinished
    timings     TEXT,                              -- JSON
    error       TEXT                               -- JSON
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state, ended);

-- The event log of an ended job: what is no picture …
CREATE TABLE events (
    job    INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    seq    INTEGER NOT NULL,
    event  TEXT    NOT NULL,                       -- JSON
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

-- … and what is: a place in the job's file of pictures.
CREATE TABLE frames (
    job     INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    picture INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    header  TEXT    NOT NULL,                      -- JSON
    start   INTEGER NOT NULL,                      -- in bytes
    length  INTEGER NOT NULL,                      -- in bytes
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
