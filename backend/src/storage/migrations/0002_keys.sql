-- Keys under which clients asked for jobs, so that asking again makes no second one.
CREATE TABLE keys (
    key     BLOB    PRIMARY KEY,                   -- SHA-256 of the client's key
    request BLOB    NOT NULL,                      -- SHA-256 of the request as it was asked
    salt    BLOB    NOT NULL,                      -- with the key it gives the owner's token
    job     INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_by_job ON keys (job);
