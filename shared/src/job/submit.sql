-- Holds the price and writes the job, or writes nothing and says why. Always one row back, unless there is no such account.
with key as (
    -- Locked before the account, as by every statement that takes both; only a key that has a limit.
    -- Clocks differ a little: a day or month that has begun for one of us is not taken back by another.
    select id, least(day_limit - case when day >= $31::date then day_tokens else 0 end,
                     month_limit - case when month >= date_trunc('month', $31)::date then month_tokens else 0 end,
                     total_limit - total_tokens) as room
    from api_keys
    where id = $6 and coalesce(day_limit, month_limit, total_limit) is not null
    for no key update
), purse as (
    -- From here on the account's row is ours, as its last writer left it.
    select * from accounts where id = $1 and (select count(*) from key) >= 0
    for no key update
), decided as (
    select a.id, a.status, a.available_tokens, a.held_tokens, a.owed_tokens, a.expiring, a.next_expiry, a.fair_at, k.room,
           k.id is not null as counted, t.per_hour,
           -- Start-time fair queuing: a job starts where its account's last one ended, but never in the past of
           -- the pool; the dearer the job, the further the account's next one moves back.
           greatest(a.vtime[$4], p.vnow) as tag,
           a.available_tokens + greatest(a.credit_limit_tokens - a.owed_tokens, 0) as spendable,
           greatest(a.rate_at, $18::timestamptz) + interval '1 hour' / t.per_hour as rate_at,
           job_cover($2, a.available_tokens + greatest(a.credit_limit_tokens - a.owed_tokens, 0), a.unlimited_until,
                     a.subscribed_until, a.fair_at, $26::interval, coalesce($20::timestamptz, $18), $18) as cover
    from purse a
    left join key k on true
    cross join pools p
    cross join lateral (
        select coalesce(a.requests_per_hour, (select requests_per_hour from tiers where tier = a.tier)) as per_hour
    ) t
    where p.pool = $3
), verdict as (
    select d.*, case when d.cover = 'tokens' then $2 else 0 end as hold,
           case
               when d.status <> 'active' then 'suspended'
               -- The clock has not been here yet; the caller takes what has expired, and asks again.
               when d.next_expiry <= $18 then 'expired_lots'
               when d.rate_at > $18 + interval '1 hour' then 'rate_limited'
               when d.cover is null then 'insufficient'
               when d.room < $2 and d.cover = 'tokens' then 'key_limit'
           end as refusal
    from decided d
), account as (
    update accounts a
    -- Of the locked row alone: constraints are checked once against a mixture when this row has moved since the snapshot.
    set available_tokens = greatest(v.available_tokens - v.hold, 0),
        owed_tokens = v.owed_tokens + greatest(v.hold - v.available_tokens, 0),
        held_tokens = v.held_tokens + v.hold,
        expiring = lots_after(v.expiring, v.hold),
        rate_at = coalesce(v.rate_at, a.rate_at),
        fair_at = case when v.cover = 'subscription' then greatest(v.fair_at, $18) + $26 else v.fair_at end,
        vtime[$4] = v.tag + greatest($2, 1)
    from verdict v
    where a.id = v.id and v.refusal is null
    returning a.id, v.tag, v.hold, v.cover, v.counted, lots_taken(v.expiring, v.hold) as lots,
              greatest(v.hold - v.available_tokens, 0) as drawn
), spent as (
    update api_keys k
    set day = greatest(k.day, $31), day_tokens = a.hold + case when k.day >= $31 then k.day_tokens else 0 end,
        month = greatest(k.month, date_trunc('month', $31)::date),
        month_tokens = a.hold + case when k.month >= date_trunc('month', $31)::date then k.month_tokens else 0 end,
        total_tokens = k.total_tokens + a.hold
    from key, account a
    where k.id = key.id and a.hold > 0
), job as (
    insert into jobs (id, account_id, key_id, user_id, status, model, medium, task, provider, upstream_model, cost_usd, input,
                      held_tokens, held_lots, drawn_tokens, key_counted, covered_by, price_version, price_percent, priority, webhook_url, webhook_events,
                      metadata, traceparent, created_at, deadline, request_hash, input_shown)
    select $5::uuid, id, $6::uuid, $27::uuid, 'open', $7::text, $3, $8::text, $9::text, $10::text, $11::numeric, $12::jsonb,
           hold, lots, drawn, counted, cover, $28::integer, $29::smallint, $13::smallint, $14::text, $15::text[],
           $16::jsonb, $17::text, $18, $19::timestamptz, $24::bytea, $25::jsonb
    from account
), queued as (
    insert into queue (job_id, pool, priority, tag, run_at, deadline, phase)
    select $5, $3, $13, tag, $20::timestamptz, $19, case when $20 is null then 'queued' else 'scheduled' end
    from account
), held as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select e.id, a.id, e.kind, $5::text, e.debit, e.credit, e.amount, $18
    from account a
    cross join lateral (values ($21::uuid, 'borrow', 'credit', 'available', a.drawn),
                               ($30::uuid, 'hold', 'available', 'held', a.hold)) as e (id, kind, debit, credit, amount)
    where e.amount > 0
), keyed as (
    insert into idempotency_keys (account_id, key, body_hash, job_id, created_at)
    select id, $22::text, $23::bytea, $5, $18 from account where $22 is not null
)
select v.refusal, v.spendable as "spendable!", v.room, v.per_hour, v.rate_at
from verdict v
