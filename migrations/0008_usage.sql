-- What was used and what it cost, a day at a time: a report of a year reads hundreds of rows, not millions of jobs.

-- Days (UTC) that are over and rolled up. Reports read these from the tables below, and other days from the jobs.
create table usage_days (
    day        date primary key,
    rolled_at  timestamptz not null
);

-- Jobs that ended on a day.
create table usage_daily (
    day                date not null,
    account_id         uuid not null,
    model              text not null,
    provider           text not null,
    key_id             uuid,
    user_id            uuid,
    jobs               bigint not null,
    succeeded          bigint not null,
    cached             bigint not null,             -- of those that succeeded: answered from the cache, free
    charged_tokens     bigint not null,
    prompt_tokens      bigint not null,             -- a language model's own tokens
    completion_tokens  bigint not null,
    images             bigint not null,
    seconds            numeric not null,            -- of video and sound made
    characters         bigint not null,             -- spoken
    constraint usage_daily_once unique nulls not distinct (account_id, day, model, provider, key_id, user_id)
);
create index usage_daily_by_day on usage_daily (day);

-- Attempts that ended on a day, failed ones included.
create table cost_daily (
    day         date not null,
    account_id  uuid not null,
    model       text not null,
    provider    text not null,
    attempts    bigint not null,
    failed      bigint not null,
    cost_usd    numeric not null,                   -- exact
    constraint cost_daily_once unique (account_id, day, model, provider)
);
create index cost_daily_by_day on cost_daily (day);

-- How much of `meter` a job's end counted, as a whole number; nothing where it was not counted.
create function metered_count(metered jsonb, meter text) returns bigint immutable parallel safe language sql
return coalesce(round((metered ->> meter)::numeric), 0)::bigint;
