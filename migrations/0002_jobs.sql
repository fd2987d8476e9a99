-- The truth about jobs (`jobs`, wide, written at submit and at finish) apart from the machinery that runs
-- them (`queue`, narrow and hot: a row lives only while its job is open). Finished jobs never slow a claim.

create table jobs (
    id               uuid primary key,              -- UUIDv7: sorts by time of submit
    status           text not null,                 -- near the top: operators read `select *`
    account_id       uuid not null references accounts,
    key_id           uuid not null,                 -- API key that submitted it
    model            text not null,                 -- our public name, such as nano-banana
    medium           text not null,                 -- text, image, video, audio: also the worker pool
    task             text not null,                 -- such as image.generate
    provider         text not null,                 -- route chosen at submit
    upstream_model   text not null,                 -- the vendor's id on that route
    cost_usd         numeric not null,              -- what a successful run on that route costs us, list price
    input            jsonb not null,                -- as the caller sent it, checked against the model's schema
    -- What is shown of the input where that is less: files in it are named, not repeated. Reading a job must stay cheap.
    input_shown      jsonb,
    output           jsonb,                         -- {"text", "usage", …}; files are rows of `files`
    error_code       text,                          -- stable word for programs
    error_message    text,                          -- for people
    error_retryable  boolean,                       -- whether sending the same again may help
    -- Tokens set aside at submit; the commit that makes the status final also closes the hold.
    held_tokens      bigint not null,
    charged_tokens   bigint,                        -- null while open, 0 unless succeeded
    attempts         integer not null default 0,    -- provider submits, copied from the queue at the end
    priority         smallint not null,             -- 0 high, 1 normal, 2 low
    webhook_url      text,                          -- told of the end, if set
    webhook_events   text[] not null default '{}',  -- which ends it wants to hear of; empty is all
    metadata         jsonb not null default '{}',   -- the caller's own string pairs
    traceparent      text,                          -- W3C trace context of the submit, joined by the worker
    -- SHA-256 of model and input, where the same request may be answered from the cache.
    request_hash     bytea,
    created_at       timestamptz not null,
    started_at       timestamptz,                   -- first claim, copied from the queue at the end
    finished_at      timestamptz,
    deadline         timestamptz not null,          -- past it an open job expires
    expires_at       timestamptz,                   -- when its files are deleted
    constraint jobs_status_known          check (status in ('open', 'succeeded', 'failed', 'canceled', 'expired')),
    constraint jobs_finished_iff_final    check ((status <> 'open') = (finished_at is not null)),
    constraint jobs_hold_not_negative     check (held_tokens >= 0),
    constraint jobs_charge_within_hold    check (charged_tokens between 0 and held_tokens),
    constraint jobs_charged_iff_final     check ((status <> 'open') = (charged_tokens is not null)),
    constraint jobs_charge_only_success   check (charged_tokens is null or charged_tokens = 0 or status = 'succeeded'),
    constraint jobs_error_iff_not_success check ((status in ('failed', 'canceled', 'expired')) = (error_code is not null))
);
-- The list of an account, newest first, is a walk along this index.
create index jobs_by_account on jobs (account_id, id desc);

-- One row for each open job, none for a final one.
create table queue (
    job_id            uuid primary key,
    pool              text not null,                -- which workers may claim it: the job's medium
    priority          smallint not null,            -- 0 high, 1 normal, 2 low
    tag               bigint not null,              -- start-time-fair-queuing tag, computed at submit
    run_at            timestamptz,                  -- null: runnable now; else parked until then
    -- The fence. Every write of a worker names the token of its claim; no row, no effect.
    lease_token       uuid,
    lease_until       timestamptz,                  -- kept off every index so that heartbeats stay HOT
    worker            text,                         -- who holds or last held the lease, for operators
    tries             smallint not null default 0,  -- failures and lost leases so far; waiting spends none
    attempt           smallint not null default 0,  -- provider submits begun so far
    cancel_requested  boolean not null default false,
    progress          smallint,                     -- 0–100 where the vendor tells
    started_at        timestamptz,                  -- first claim
    deadline          timestamptz not null,
    phase             text not null,                -- free text for people
    checkpoint        jsonb,                        -- where the next run resumes; see job/checkpoint.rs
    constraint queue_lease_whole check ((lease_token is null) = (lease_until is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
-- A claim is a walk along one of these two; parked jobs, however many, are not in the first.
create index queue_ready  on queue (pool, priority, tag, job_id) where lease_token is null and run_at is null;
create index queue_parked on queue (pool, run_at) where lease_token is null and run_at is not null;
create index queue_leased on queue (job_id) where lease_token is not null;
create index queue_by_deadline on queue (deadline);

-- Virtual time of each pool: the highest tag claimed so far. A new or idle account starts here.
create table pools (
    pool  text primary key,
    vnow  bigint not null default 0
) with (fillfactor = 20);
insert into pools (pool) values ('text'), ('image'), ('video'), ('audio');

-- Every provider submit, written as an intent before the call, so that none is repeated blindly.
create table attempts (
    job_id          uuid not null references jobs,
    attempt         smallint not null,              -- 1, 2, …
    provider        text not null,
    upstream_model  text not null,
    provider_ref    text,                           -- the vendor's task id, once known
    outcome         text,                           -- succeeded, failed, abandoned; null while open or unknown
    error           text,                           -- class and message, for operators
    cost_usd        numeric,                        -- list price of a success, exact; null unless it was one
    started_at      timestamptz not null,           -- when the intent was written
    finished_at     timestamptz,
    constraint attempts_pkey primary key (job_id, attempt),
    constraint attempts_outcome_known check (outcome in ('succeeded', 'failed', 'abandoned'))
);

-- The first answer to a request that carried an Idempotency-Key. Evicted after 24 hours.
create table idempotency_keys (
    account_id  uuid not null,
    key         text not null,
    body_hash   bytea not null,                     -- SHA-256 of the request's body
    job_id      uuid not null,
    created_at  timestamptz not null,
    constraint idempotency_keys_pkey primary key (account_id, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);

-- Answers of deterministic models, by account and input, for repeated requests. Evicted after 24 hours.
create table result_cache (
    account_id   uuid not null,
    request_hash bytea not null,                    -- SHA-256 of model and canonical input
    job_id       uuid not null,                     -- the job that produced the answer
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    constraint result_cache_pkey primary key (account_id, request_hash)
);
create index result_cache_by_expiry on result_cache (expires_at);
