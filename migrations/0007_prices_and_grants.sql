-- Money as data: what things cost, what accounts were given and until when, what they may do in an hour.

-- What the files of `catalog/` said when they were last published. A file that did not change since undoes nothing that
-- an operator changed in between.
create table published (
    kind  text not null,                            -- price, tier, plan, price_group
    id    text not null,
    body  jsonb not null,
    constraint published_pkey primary key (kind, id)
);

-- Every price a model ever had. The newest version counts for new jobs; a job keeps the one it was accepted under.
create table prices (
    model       text not null,
    version     integer not null,                   -- 1, 2, …
    rules       jsonb not null,                     -- [{"per","tokens","when"?,…}], see shared/src/price
    source      text not null,                      -- catalog: from the files; operator: by a person
    reason      text,                               -- why, for changes by people
    created_at  timestamptz not null,
    constraint prices_pkey         primary key (model, version),
    constraint prices_version_counts check (version > 0),
    constraint prices_source_known check (source in ('catalog', 'operator'))
);

-- Discounts: which part of the list price a group of accounts pays.
create table price_groups (
    price_group  text primary key,                  -- standard, package
    percent      smallint not null,
    constraint price_groups_percent_sane check (percent between 1 and 100)
);

create table tiers (
    tier               text primary key,            -- free, basic, premium, unlimited
    rank               smallint not null,           -- the higher counts when several apply
    requests_per_hour  integer,                     -- null is no limit
    constraint tiers_limit_positive check (requests_per_hour > 0)
);

create table plans (
    plan           text primary key,
    name           text not null,
    tokens         bigint not null,                 -- given at its start
    days           integer,                         -- how long plan and tokens last; null: tokens that stay, no subscription
    unlimited      boolean not null,                -- every job is free while it lasts
    tier           text not null,
    price_rub      numeric not null,
    on_sale        boolean not null default true,
    constraint plans_tokens_not_negative check (tokens >= 0),
    constraint plans_days_sane           check (days between 1 and 3660)
);

create table subscriptions (
    id          uuid primary key,                   -- UUIDv7
    status      text not null default 'active',
    account_id  uuid not null references accounts,
    plan        text not null references plans,
    reference   text not null,                      -- the payment or the operator's word that began it
    starts_at   timestamptz not null,
    ends_at     timestamptz not null,
    created_at  timestamptz not null,
    constraint subscriptions_once         unique (reference),
    constraint subscriptions_status_known check (status in ('active', 'ended'))
);
create index subscriptions_by_account on subscriptions (account_id, id desc);
create index subscriptions_ending on subscriptions (ends_at) where status = 'active';

-- Tokens given. What is left of one that expires is a lot in its account's row; of those that stay, the rest of `available`.
create table grants (
    id          uuid primary key,                   -- UUIDv7
    account_id  uuid not null references accounts,
    source      text not null,                      -- operator, plan, start, purchase
    reference   text not null,                      -- natural key of the cause
    tokens      bigint not null,
    expires_at  timestamptz,                        -- null: they stay
    reason      text,
    created_at  timestamptz not null,
    constraint grants_once            unique (reference),
    constraint grants_tokens_positive check (tokens > 0)
);
create index grants_by_account on grants (account_id, id desc);
create index grants_expiring on grants (expires_at) where expires_at is not null;

-- Tokens of a grant that expires, as long as there are some.
create type lot as (grant_id uuid, expires_at timestamptz, tokens bigint);

-- Lists of lots are kept in the order in which they are spent: soonest to expire first. In plpgsql, whose plans are kept:
-- a submit calls several of these, and mostly for an empty list.
create function lots_total(lots lot[]) returns bigint immutable parallel safe language plpgsql as $$
begin
    if cardinality(lots) = 0 then return 0; end if;
    return (select sum(l.tokens)::bigint from unnest(lots) l);
end $$;

-- What is left of `lots` after `amount` was spent.
create function lots_after(lots lot[], amount bigint) returns lot[] immutable parallel safe language plpgsql as $$
begin
    if cardinality(lots) = 0 or amount <= 0 then return lots; end if;
    return (
        select coalesce(array_agg(row(s.grant_id, s.expires_at, least(s.tokens, s.upto - amount))::lot
                                  order by s.expires_at, s.grant_id), '{}')
        from (select l.*, (sum(l.tokens) over (order by l.expires_at, l.grant_id))::bigint as upto from unnest(lots) l) s
        where s.upto > amount
    );
end $$;

-- What spending `amount` takes from `lots`; it may be less than `amount`.
create function lots_taken(lots lot[], amount bigint) returns lot[] immutable parallel safe language plpgsql as $$
begin
    if cardinality(lots) = 0 or amount <= 0 then return '{}'; end if;
    return (
        select coalesce(array_agg(row(s.grant_id, s.expires_at, least(s.tokens, amount - (s.upto - s.tokens)))::lot
                                  order by s.expires_at, s.grant_id), '{}')
        from (select l.*, (sum(l.tokens) over (order by l.expires_at, l.grant_id))::bigint as upto from unnest(lots) l) s
        where s.upto - s.tokens < amount
    );
end $$;

-- Both lists as one; lots of the same grant become one again.
create function lots_joined(a lot[], b lot[]) returns lot[] immutable parallel safe language plpgsql as $$
begin
    if cardinality(b) = 0 then return a; end if;
    if cardinality(a) = 0 then return b; end if;
    return (
        select array_agg(row(s.grant_id, s.expires_at, s.tokens)::lot order by s.expires_at, s.grant_id)
        from (select l.grant_id, l.expires_at, sum(l.tokens)::bigint as tokens from unnest(a || b) l
              group by l.grant_id, l.expires_at) s
    );
end $$;

alter table accounts
    -- Lots that are not held. The rest of `available_tokens` never expires.
    add column expiring            lot[] not null default '{}',
    add column next_expiry         timestamptz generated always as ((expiring[1]).expires_at) stored,
    -- Companies may go on when nothing is available: what they draw is owed, and paid back by the next tokens they get.
    add column credit_limit_tokens bigint not null default 0,
    add column owed_tokens         bigint not null default 0,
    add column price_group         text not null default 'standard',
    -- Limits. Accounts made before there were tiers have none.
    add column tier                text not null default 'unlimited', -- the highest of its base tier and its plans
    add column base_tier           text not null default 'unlimited', -- without any plan
    add column requests_per_hour   integer,         -- its own limit, in place of its tier's
    add column rate_at             timestamptz,     -- theoretical arrival time of its next request, see `rates`
    -- Plans, as far as a submit has to know them.
    add column subscribed_until    timestamptz,
    add column unlimited_until     timestamptz,
    add column fair_at             timestamptz,     -- as `rate_at`, for what subscribers get when nothing is available
    -- Told once when `available_tokens` falls below; null is the deployment's own threshold.
    add column low_balance_tokens  bigint,
    add column low_balance_told    boolean not null default false,
    add constraint accounts_lots_within_available check (lots_total(expiring) <= available_tokens),
    add constraint accounts_owed_not_negative     check (owed_tokens >= 0),
    add constraint accounts_credit_not_negative   check (credit_limit_tokens >= 0),
    add constraint accounts_limit_positive        check (requests_per_hour > 0);
alter table accounts
    alter column tier set default 'free',
    alter column base_tier set default 'free';
create index accounts_next_expiry on accounts (next_expiry) where next_expiry is not null;

alter table jobs
    alter column key_id drop not null,              -- null when a person submitted it, without a key
    add column user_id        uuid,                 -- the person, where it was not a key
    add column price_version  integer,              -- of its model; null for jobs from before there were versions
    add column price_percent  smallint not null default 100, -- what its account's price group paid
    add column covered_by     text not null default 'tokens', -- unlimited, subscription: held nothing, a plan pays
    add column held_lots      lot[] not null default '{}',    -- which part of the hold was of grants that expire
    add column drawn_tokens   bigint not null default 0,      -- which part of it was drawn on credit
    add column key_counted    boolean not null default false, -- whether its hold counts towards its key's limits
    add column metered        jsonb,                -- what was counted at its end, by meter
    add constraint jobs_drawn_within_hold check (drawn_tokens between 0 and held_tokens),
    add constraint jobs_covered_known check (covered_by in ('tokens', 'unlimited', 'subscription', 'cache')),
    add constraint jobs_price         foreign key (model, price_version) references prices (model, version);
create index if not exists jobs_by_finish on jobs (account_id, finished_at) where finished_at is not null;
create index if not exists jobs_by_day on jobs using brin (finished_at) with (autosummarize = on);
create index if not exists attempts_by_day on attempts using brin (finished_at) with (autosummarize = on);

alter table ledger drop constraint ledger_entry_known;
alter table ledger add constraint ledger_entry_known check ((kind, debit, credit) in (
    ('grant',   'platform',  'available'),          -- tokens given
    ('debit',   'available', 'platform'),           -- tokens taken back by an operator
    ('hold',    'available', 'held'),               -- set aside at submit
    ('charge',  'held',      'revenue'),            -- earned by a success
    ('release', 'held',      'available'),          -- given back
    ('expire',  'available', 'platform'),           -- a grant's time was over
    ('borrow',  'credit',    'available'),          -- drawn on the credit limit for a hold
    ('repay',   'available', 'credit')              -- paid back
));

-- What pays for a job of `price` that is to start at `start`: a plan without limit; the account's tokens and credit; or, where a
-- subscriber has too few, what subscribers get free, as often as `fair_interval` allows (null: this model is not among it).
-- Null: nothing does.
create function job_cover(price bigint, spendable bigint, unlimited_until timestamptz, subscribed_until timestamptz,
                          fair_at timestamptz, fair_interval interval, start timestamptz, now timestamptz)
returns text immutable parallel safe language sql
return case
    when unlimited_until > start then 'unlimited'
    when spendable >= price then 'tokens'
    when subscribed_until > start and greatest(fair_at, now) + fair_interval <= now + interval '1 hour' then 'subscription'
end;
