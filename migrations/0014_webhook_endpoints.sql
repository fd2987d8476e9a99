-- Endpoints: where an account is told of the ends of all its jobs, beside what a job itself asks for.

create table webhook_endpoints (
    id               uuid primary key,              -- UUIDv7
    account_id       uuid not null references accounts,
    url              text not null,                 -- where to post; it may hold a secret of its owner
    events           text[] not null,               -- which ends it wants to hear of, as job.succeeded; empty is all
    description      text,                          -- for people
    -- 32 random bytes that it checks our signatures with, sealed for this row. The one before the last rotation signs as well,
    -- until its time is over.
    secret           bytea not null,
    previous_secret  bytea,
    previous_until   timestamptz,
    disabled_at      timestamptz,                   -- not told of anything since
    disabled_reason  text,                          -- owner; gone: it answered 410; failing: for five days nothing arrived
    failing_since    timestamptz,                   -- the first failed try since the last one that arrived
    -- Since when it hears what it hears now: made, switched on again, or given another filter.
    changed_at       timestamptz not null,
    created_at       timestamptz not null,
    constraint webhook_endpoints_previous_whole check ((previous_secret is null) = (previous_until is null)),
    constraint webhook_endpoints_disabled_whole check ((disabled_at is null) = (disabled_reason is null)),
    constraint webhook_endpoints_reason_known   check (disabled_reason in ('owner', 'gone', 'failing'))
);
create index webhook_endpoints_by_account on webhook_endpoints (account_id, id);

-- How many endpoints of the account are not disabled; written with each change of one, under the lock of this row. The end of a
-- job has this row in its hands, so that for an account without endpoints it looks no further.
alter table accounts
    add column enabled_endpoints smallint not null default 0,
    add constraint accounts_endpoints_not_negative check (enabled_endpoints >= 0);

-- Which notices share a receiver: those of an endpoint, and those that jobs themselves ask for at one host.
create function notice_lane(endpoint_id uuid, target text) returns text immutable parallel safe language sql
return coalesce(endpoint_id::text, lower(substring(target from '://([^/?#]*)')), '');

-- A test tells of no job, and its `job_id` is its own id: a version before this one finds no such job and lets it be.
alter table notices
    -- Whom of the account's endpoints it tells; null where the job itself said whom. `channel` is then the endpoint's id, so
    -- that a job owes one notice to each, and `target` is where it led when the job ended.
    add column endpoint_id uuid,
    add column log jsonb not null default '[]',     -- the last tries, oldest first: [{"at","status_code","error","duration_ms"}]
    drop constraint notices_status_known,
    -- gone: its endpoint was deleted or disabled before it heard of it.
    add constraint notices_status_known check (status in ('pending', 'delivered', 'dead', 'gone'));

-- The delivery log is a walk along one of the first two, a claim one along the third, which replaces `notices_due`.
create index if not exists notices_by_account on notices (account_id, id);
create index if not exists notices_by_endpoint on notices (endpoint_id, id) where endpoint_id is not null;
create index if not exists notices_due_in_lane on notices (account_id, notice_lane(endpoint_id, target), run_at, id)
    where status = 'pending';
drop index notices_due;
