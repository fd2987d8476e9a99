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

-- What the orders of a call took of an account so far, and of the limited key they came with.
create type taking as (
    account_id  uuid,
    spent       bigint,                             -- tokens, credit included
    rate_at     timestamptz,
    fair_at     timestamptz,
    next_tag    bigint,
    seen        text[],                             -- idempotency keys
    key_id      uuid,                               -- null: none, or one without limits
    key_spent   bigint
);

-- Judges the orders of a call one after the other, each by what those before it left, and takes from accounts and keys what
-- the accepted ones hold. All orders are for one pool. Locks keys, then accounts, each in the order of their ids, so that
-- two calls never wait for each other in a circle; whatever is read after that is as their last writers left it.
-- An account that does not exist has no row in the answer. Few expressions, and those long: each costs some microseconds a
-- transaction, however small it is.
create function admit(the_pool text, place integer, at timestamptz, account_ids uuid[], order_prices bigint[], key_ids uuid[],
                      order_starts timestamptz[], fair_intervals interval[], idempotency_keys text[])
returns setof admission language plpgsql
-- Row by row, by their keys, also where a table is so small that reading all of it looks cheaper: it has dead rows too, and the
-- plan is kept while it grows.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off as $$
declare
    o       record;
    a       admission;
    cover   text;
    -- What was taken so far of the account and key in hand, and of all of them.
    so_far  taking;
    taken   taking[];
begin
    perform from api_keys l where l.id = any (key_ids) and coalesce(l.day_limit, l.month_limit, l.total_limit) is not null
    order by l.id for no key update;
    perform from accounts l where l.id = any (account_ids) order by l.id for no key update;
    for o in
        select x.n, x.account_id, x.price, coalesce(x.start_at, at) as start_at, x.fair_interval, x.idempotency_key,
               c.status, c.available_tokens, c.expiring, c.next_expiry, c.rate_at, c.fair_at, c.unlimited_until, c.subscribed_until,
               c.available_tokens + greatest(c.credit_limit_tokens - c.owed_tokens, 0) as spendable,
               -- Start-time fair queuing: a job starts where its account's last one ended, but never in the past of the
               -- pool; the dearer the job, the further the account's next one moves back.
               greatest(c.vtime[place], p.vnow) as tag,
               coalesce(c.requests_per_hour, t.requests_per_hour) as per_hour, l.id as limited_key,
               -- Clocks differ a little: a day or month that has begun for one of us is not taken back by another.
               least(l.day_limit - case when l.day >= d.today then l.day_tokens else 0 end,
                     l.month_limit - case when l.month >= d.this_month then l.month_tokens else 0 end,
                     l.total_limit - l.total_tokens) as room,
               s.key is not null as repeats,
               lag(x.account_id) over line is distinct from x.account_id as begins_account,
               lag(x.account_id) over line is distinct from x.account_id or lag(l.id) over line is distinct from l.id as begins,
               dense_rank() over (order by x.account_id, l.id) as entry
        from unnest(account_ids, order_prices, key_ids, order_starts, fair_intervals, idempotency_keys)
             with ordinality as x (account_id, price, key_id, start_at, fair_interval, idempotency_key, n)
        cross join lateral (select (at at time zone 'utc')::date as today, date_trunc('month', at at time zone 'utc')::date as this_month) d
        cross join (select vnow from pools where pool = the_pool) p
        join accounts c on c.id = x.account_id
        left join tiers t on t.tier = c.tier
        left join api_keys l on l.id = x.key_id and coalesce(l.day_limit, l.month_limit, l.total_limit) is not null
        left join lateral (
            select k.key from idempotency_keys k where k.account_id = x.account_id and k.key = x.idempotency_key limit 1
        ) s on true
        window line as (order by x.account_id, l.id, x.n)
        order by x.account_id, l.id, x.n
    loop
        if o.begins then
            so_far := case when o.begins_account
                      then row(o.account_id, 0, o.rate_at, o.fair_at, o.tag, '{}', o.limited_key, 0)::taking
                      else row(o.account_id, so_far.spent, so_far.rate_at, so_far.fair_at, so_far.next_tag, so_far.seen,
                               o.limited_key, 0)::taking end;
        end if;
        cover := job_cover(o.price, o.spendable - so_far.spent, o.unlimited_until, o.subscribed_until, so_far.fair_at,
                           o.fair_interval, o.start_at, at);
        a := row(o.n,
            case
                when o.repeats or o.idempotency_key = any (so_far.seen) then 'repeat'
                when o.status <> 'active' then 'suspended'
                -- The clock has not been here yet; the caller takes what has expired, and asks again.
                when o.next_expiry <= at then 'expired_lots'
                when greatest(so_far.rate_at, at) + interval '1 hour' / o.per_hour > at + interval '1 hour' then 'rate_limited'
                when cover is null then 'insufficient'
                when cover = 'tokens' and o.price > o.room - so_far.key_spent then 'key_limit'
            end,
            case when cover = 'tokens' then o.price else 0 end,
            cover,
            so_far.next_tag,
            case when cover = 'tokens' and cardinality(o.expiring) > 0
                 then lots_taken(lots_after(o.expiring, so_far.spent), o.price) else '{}' end,
            case when cover = 'tokens' then greatest(o.price - greatest(o.available_tokens - so_far.spent, 0), 0) else 0 end,
            o.limited_key is not null,
            o.spendable - so_far.spent,
            o.room - so_far.key_spent,
            o.per_hour,
            greatest(so_far.rate_at, at) + interval '1 hour' / o.per_hour)::admission;
        if a.refusal is null then
            so_far := row(so_far.account_id, so_far.spent + a.hold, coalesce(a.rate_at, so_far.rate_at),
                case when cover = 'subscription' then greatest(so_far.fair_at, at) + o.fair_interval else so_far.fair_at end,
                so_far.next_tag + greatest(o.price, 1),
                case when o.idempotency_key is null then so_far.seen else so_far.seen || o.idempotency_key end,
                so_far.key_id, so_far.key_spent + a.hold)::taking;
            taken[o.entry] := so_far;
        end if;
        return next a;
    end loop;
    update api_keys w
    set day = greatest(w.day, s.today), day_tokens = s.key_spent + case when w.day >= s.today then w.day_tokens else 0 end,
        month = greatest(w.month, s.this_month),
        month_tokens = s.key_spent + case when w.month >= s.this_month then w.month_tokens else 0 end,
        total_tokens = w.total_tokens + s.key_spent
    from (select key_id, key_spent, (at at time zone 'utc')::date as today, date_trunc('month', at at time zone 'utc')::date as this_month
          from unnest(taken) where key_spent > 0 and key_id is not null) s
    where w.id = s.key_id;
    update accounts w
    set available_tokens = greatest(w.available_tokens - s.spent, 0),
        owed_tokens = w.owed_tokens + greatest(s.spent - w.available_tokens, 0),
        held_tokens = w.held_tokens + s.spent, expiring = lots_after(w.expiring, s.spent),
        rate_at = s.rate_at, fair_at = s.fair_at, vtime[place] = s.next_tag
    -- What was taken with the last key of an account includes what was taken with those before it.
    from (select distinct on (account_id) * from unnest(taken) with ordinality where account_id is not null
          order by account_id, ordinality desc) s
    where w.id = s.account_id;
end $$;

-- Lots of many jobs as one list.
create aggregate lots_joined_all(lot[]) (sfunc = lots_joined, stype = lot[], initcond = '{}');

-- The statements that write these rows read or lock what they refer to, and neither jobs, accounts nor prices are ever
-- deleted: a trigger for each row would look up once more what is known. The audit looks for strays.
alter table jobs     drop constraint jobs_account_id_fkey, drop constraint jobs_price;
alter table ledger   drop constraint ledger_account_id_fkey;
alter table attempts drop constraint attempts_job_id_fkey;
alter table files    drop constraint files_account_id_fkey, drop constraint files_job_id_fkey;
alter table notices  drop constraint notices_job_id_fkey;
