-- Files that accounts send in to use them as inputs of jobs. A table of its own beside `files`: an upload has no job, and what
-- runs now reads every row of `files` by its job. A row is written once its object is whole and stored, so every row has an
-- object; an object without a row is what a process left that ended in between, and the clean-up finds it by its key.
create table uploads (
    id            uuid primary key,                 -- UUIDv7; callers see a file id, as those of `files`
    account_id    uuid not null references accounts,
    name          text not null,                    -- as the caller calls it, made harmless; shown, and used for nothing
    purpose       text,                             -- a word of the caller's, given back and used for nothing
    storage_key   text not null,                    -- uploads/{account_id}/{id}.{ext}
    mime_type     text not null,                    -- by magic bytes
    size_bytes    bigint not null,
    created_at    timestamptz not null,
    expires_at    timestamptz not null,             -- the clean-up deletes object and row after this
    delete_tries  integer not null default 0,       -- failed deletions so far; its owner does not see it any more
    delete_error  text,                             -- what the last one said
    constraint uploads_not_empty check (size_bytes > 0)
);
-- For its owner's list, and for how much of the account's room is used.
create index uploads_by_account on uploads (account_id, id);
create index uploads_by_expiry on uploads (expires_at);
