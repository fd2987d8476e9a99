-- Many jobs in one commit: submits are admitted and jobs are closed in batches, so that they share a flush of the log.

-- What `admit` says of one order.
create type admission as (
    n           bigint,                             -- the order's place in the call, from 1
    refusal     text,                               -- null: accepted; repeat: its idempotency key was used before
    hold        bigint,                             -- tokens held for it
    cover       text,                               -- what pays: tokens, unlimited, subscription
    tag         bigint,                             -- its place in the fair order of the pool
    lots        lot[],                              -- which part of the hold is of grants that expire
    drawn       bigint,                             -- which part of it is drawn on credit
    counted     boolean,                            -- whether it counts towards its key's limits
    spendable   bigint,                             -- what the account could spend before it
    room        bigint,                             -- what its key could spend before it; null: no limit
    per_hour    integer,                            -- the account's limit; null: none
    rate_at     timestamptz                         -- theoretical arrival time after it
);

-- Judges the orders of a call one after the other, each by what those before it left, and takes from accounts and keys what
-- the accepted ones hold. All orders are for one pool. Locks keys, then accounts, each in the order of their ids, so that
-- two calls never wait for each other in a circle; whatever is read after that is as their last writers left it.
-- An account that does not exist has no row in the answer.
create function admit(the_pool text, place integer, at timestamptz, account_ids uuid[], order_prices bigint[], key_ids uuid[],
                      order_starts timestamptz[], fair_intervals interval[], idempotency_keys text[])
returns setof admission language plpgsql as $$
declare
    today       date := (at at time zone 'utc')::date;
    this_month  date := date_trunc('month', at at time zone 'utc')::date;
    vnow        bigint;
    o           record;
    a           admission;
    -- The account and the key in hand, and where their sums stand below.
    account     uuid;
    key         uuid;
    i           integer := 0;
    k           integer := 0;
    spent       bigint;
    drawable    bigint;
    rate        timestamptz;
    fair        timestamptz;
    next_tag    bigint;
    key_spent   bigint;
    seen        text[];
    -- What is written at the end, one entry for each account and key.
    accounts_of uuid[] := '{}';
    spent_of    bigint[] := '{}';
    rate_of     timestamptz[] := '{}';
    fair_of     timestamptz[] := '{}';
    tag_of      bigint[] := '{}';
    keys_of     uuid[] := '{}';
    key_sums    bigint[] := '{}';
begin
    perform from api_keys l where l.id = any (key_ids) and coalesce(l.day_limit, l.month_limit, l.total_limit) is not null
    order by l.id for no key update;
    perform from accounts l where l.id = any (account_ids) order by l.id for no key update;
    select p.vnow into vnow from pools p where p.pool = the_pool;
    for o in
        select x.n, x.account_id, x.price, coalesce(x.start_at, at) as start_at, x.fair_interval, x.idempotency_key,
               c.status, c.available_tokens, c.expiring, c.next_expiry, c.rate_at, c.fair_at, c.unlimited_until, c.subscribed_until,
               greatest(c.credit_limit_tokens - c.owed_tokens, 0) as credit, c.vtime[place] as vtime,
               coalesce(c.requests_per_hour, t.requests_per_hour) as per_hour, l.id as limited_key,
               -- Clocks differ a little: a day or month that has begun for one of us is not taken back by another.
               least(l.day_limit - case when l.day >= today then l.day_tokens else 0 end,
                     l.month_limit - case when l.month >= this_month then l.month_tokens else 0 end,
                     l.total_limit - l.total_tokens) as room,
               exists (select from idempotency_keys s where s.account_id = x.account_id and s.key = x.idempotency_key) as repeats
        from unnest(account_ids, order_prices, key_ids, order_starts, fair_intervals, idempotency_keys)
             with ordinality as x (account_id, price, key_id, start_at, fair_interval, idempotency_key, n)
        join accounts c on c.id = x.account_id
        left join tiers t on t.tier = c.tier
        left join api_keys l on l.id = x.key_id and coalesce(l.day_limit, l.month_limit, l.total_limit) is not null
        order by x.account_id, l.id, x.n
    loop
        if o.account_id is distinct from account then
            account := o.account_id;
            i := i + 1;
            spent := 0;
            rate := o.rate_at;
            fair := o.fair_at;
            -- Start-time fair queuing: a job starts where its account's last one ended, but never in the past of the
            -- pool; the dearer the job, the further the account's next one moves back.
            next_tag := greatest(o.vtime, vnow);
            seen := '{}';
        end if;
        if o.limited_key is distinct from key then
            key := o.limited_key;
            key_spent := 0;
            if key is not null then k := k + 1; end if;
        end if;
        a := (o.n, null, 0, null, next_tag, '{}', 0, key is not null, o.available_tokens + o.credit - spent, o.room - key_spent,
              o.per_hour, greatest(rate, at) + interval '1 hour' / o.per_hour);
        a.cover := job_cover(o.price, a.spendable, o.unlimited_until, o.subscribed_until, fair, o.fair_interval, o.start_at, at);
        if a.cover = 'tokens' then a.hold := o.price; end if;
        a.refusal := case
            when o.repeats or o.idempotency_key = any (seen) then 'repeat'
            when o.status <> 'active' then 'suspended'
            -- The clock has not been here yet; the caller takes what has expired, and asks again.
            when o.next_expiry <= at then 'expired_lots'
            when a.rate_at > at + interval '1 hour' then 'rate_limited'
            when a.cover is null then 'insufficient'
            when a.hold > a.room then 'key_limit'
        end;
        if a.refusal is null then
            if a.hold > 0 then
                if cardinality(o.expiring) > 0 then a.lots := lots_taken(lots_after(o.expiring, spent), a.hold); end if;
                a.drawn := greatest(a.hold - greatest(o.available_tokens - spent, 0), 0);
            end if;
            spent := spent + a.hold;
            if a.rate_at is not null then rate := a.rate_at; end if;
            if a.cover = 'subscription' then fair := greatest(fair, at) + o.fair_interval; end if;
            next_tag := next_tag + greatest(o.price, 1);
            if o.idempotency_key is not null then seen := seen || o.idempotency_key; end if;
            accounts_of[i] := account;
            spent_of[i] := spent;
            rate_of[i] := rate;
            fair_of[i] := fair;
            tag_of[i] := next_tag;
            if key is not null then
                key_spent := key_spent + a.hold;
                keys_of[k] := key;
                key_sums[k] := key_spent;
            end if;
        end if;
        return next a;
    end loop;
    update api_keys w
    set day = greatest(w.day, today), day_tokens = s.spent + case when w.day >= today then w.day_tokens else 0 end,
        month = greatest(w.month, this_month),
        month_tokens = s.spent + case when w.month >= this_month then w.month_tokens else 0 end,
        total_tokens = w.total_tokens + s.spent
    from unnest(keys_of, key_sums) as s (id, spent)
    where w.id = s.id and s.spent > 0;
    update accounts w
    set available_tokens = greatest(w.available_tokens - s.spent, 0),
        owed_tokens = w.owed_tokens + greatest(s.spent - w.available_tokens, 0),
        held_tokens = w.held_tokens + s.spent, expiring = lots_after(w.expiring, s.spent),
        rate_at = s.rate_at, fair_at = s.fair_at, vtime[place] = s.next_tag
    from unnest(accounts_of, spent_of, rate_of, fair_of, tag_of) as s (id, spent, rate_at, fair_at, next_tag)
    where w.id = s.id;
end $$;

-- Lots of many jobs as one list.
create aggregate lots_joined_all(lot[]) (sfunc = lots_joined, stype = lot[], initcond = '{}');

-- The statements that write these rows read or lock what they refer to, and neither jobs, accounts nor prices are ever
-- deleted: looking each up once more cost a submit and a close a fifth of their time. The audit looks for strays.
alter table jobs     drop constraint jobs_account_id_fkey, drop constraint jobs_price;
alter table ledger   drop constraint ledger_account_id_fkey;
alter table attempts drop constraint attempts_job_id_fkey;
alter table files    drop constraint files_account_id_fkey, drop constraint files_job_id_fkey;
alter table notices  drop constraint notices_job_id_fkey;
