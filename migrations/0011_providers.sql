-- Our keys at the providers. Where `secret` is null, a process has the key from its environment and knows it by its fingerprint.
create table provider_keys (
    id             uuid primary key,
    provider       text not null,
    name           text not null,                  -- for people
    fingerprint    text not null,                  -- of the secret, so that none is there twice
    secret         bytea,                          -- sealed
    weight         integer not null default 1,     -- its share of the work, beside the others'
    per_minute     integer,                        -- submits a minute; null: as many as come
    concurrency    integer,                        -- submits under way at once; null: as many as come
    credit_floor   numeric,                        -- operators are told when the vendor's account has less; in its unit
    created_at     timestamptz not null,
    disabled_at    timestamptz,                    -- not used for new work since
    disabled_why   text,                           -- 'operator', or what the vendor said
    full_at        timestamptz,                    -- when `per_minute` will have been used up by nothing again, as in `rates`
    check_at       timestamptz,                    -- the vendor is to be asked about it, from then on
    checked_at     timestamptz,                    -- when it was last asked
    check_error    text,                           -- what it said then, where the key does not work
    credit         numeric,                        -- what it said is left on the account
    credit_unit    text,
    credit_told_at timestamptz,                    -- operators know that it has fallen below its floor
    constraint provider_keys_once unique (provider, fingerprint),
    constraint provider_keys_name unique (provider, name),
    constraint provider_keys_weight check (weight between 1 and 1000),
    constraint provider_keys_per_minute check (per_minute between 1 and 1000000),
    constraint provider_keys_concurrency check (concurrency between 1 and 10000)
) with (fillfactor = 70);

-- Keys that rest: for one of the provider's models, or for all of them ('').
create table provider_cooldowns (
    key_id          uuid not null references provider_keys on delete cascade,
    upstream_model  text not null,
    until           timestamptz not null,
    strikes         smallint not null,             -- rests in a row; each is longer than the one before
    why             text not null,                 -- class of the error
    primary key (key_id, upstream_model)
) with (fillfactor = 70);

-- Places of keys with a limit of submits under way. One is free again when the attempt that took it has ended, so nobody gives
-- it back and nothing leaks.
create table provider_slots (
    key_id      uuid not null references provider_keys on delete cascade,
    slot        integer not null,                  -- 1, 2, …
    job_id      uuid,
    attempt     smallint,
    taken_at    timestamptz,
    primary key (key_id, slot)
) with (fillfactor = 50);

-- How each route fares, for all processes: counts that fade, and the circuit breaker made of them; see provider/standing.rs.
create table provider_routes (
    provider        text not null,
    upstream_model  text not null,
    seen_at         timestamptz not null,          -- the counts are as of then
    good            double precision not null,     -- half is forgotten in a minute
    bad             double precision not null,
    succeeded       double precision not null,     -- half is forgotten in an hour
    failed          double precision not null,
    latency_ms      double precision,              -- mean of the successes, the latest counting most
    open_until      timestamptz,                   -- not null: no new work but for a probe, once this has passed
    openings        smallint not null default 0,   -- times in a row that it opened
    probe_until     timestamptz,                   -- one job is trying it until then
    primary key (provider, upstream_model)
) with (fillfactor = 50);

-- By which of our keys the current attempt of a job was submitted, and when: its task can be asked for by no other key.
alter table queue add column provider_key_id uuid, add column begun_at timestamptz;
alter table attempts add column provider_key_id uuid;
