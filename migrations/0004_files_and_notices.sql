-- What a job leaves behind: files in object storage, and the duty to tell its owner.

create table files (
    id                uuid primary key,             -- UUIDv7
    account_id        uuid not null references accounts,
    job_id            uuid not null references jobs,
    position          smallint not null,            -- order in the job's output, from 0
    storage_key       text not null,                -- outputs/{job_id}/{n}.{ext}
    preview_key       text,                         -- images: a smaller JPEG beside it
    mime_type         text not null,                -- by magic bytes
    size_bytes        bigint not null,
    width             integer,                      -- pixels
    height            integer,
    duration_seconds  double precision,
    created_at        timestamptz not null,
    expires_at        timestamptz not null,         -- the clean-up deletes object and row after this
    delete_tries      integer not null default 0,   -- failed deletions so far
    delete_error      text,                         -- what the last one said
    constraint files_by_job unique (job_id, position),
    constraint files_not_empty check (size_bytes > 0)
);
create index files_by_expiry on files (expires_at);

-- One duty to tell, per final job and channel; the row's id is the webhook-id, the same at every try.
create table notices (
    id           uuid primary key,                  -- UUIDv7
    job_id       uuid not null references jobs,
    account_id   uuid not null,
    channel      text not null,                     -- webhook
    event        text not null,                     -- job.succeeded, job.failed, job.canceled, job.expired
    target       text not null,                     -- where to: the webhook's URL
    status       text not null default 'pending',
    tries        smallint not null default 0,
    run_at       timestamptz not null,              -- when the next try is due
    lease_token  uuid,                              -- fences deliverers, as in `queue`
    lease_until  timestamptz,
    last_error   text,                              -- what went wrong last: a status or a transport error
    created_at   timestamptz not null,
    settled_at   timestamptz,                       -- delivered or given up
    constraint notices_once         unique (job_id, channel),
    constraint notices_status_known check (status in ('pending', 'delivered', 'dead')),
    constraint notices_settled      check ((status = 'pending') = (settled_at is null))
);
create index notices_due on notices (account_id, run_at) where status = 'pending';
