-- Holds the price and writes the job, or, when the account has too little, does nothing and returns no row.
with account as (
    update accounts a
    set available_tokens = a.available_tokens - $2,
        held_tokens = a.held_tokens + $2,
        -- Start-time fair queuing: a job starts where its account's last one ended, but never in the past of
        -- the pool; the dearer the job, the further the account's next one moves back.
        vtime[$4] = greatest(a.vtime[$4], p.vnow) + greatest($2, 1)
    from pools p
    where a.id = $1 and p.pool = $3 and a.available_tokens >= $2
    returning a.id, a.vtime[$4] - greatest($2, 1) as tag
), job as (
    insert into jobs (id, account_id, key_id, status, model, medium, task, provider, upstream_model, cost_usd, input,
                      held_tokens, priority, webhook_url, webhook_events, metadata, traceparent, created_at, deadline,
                      request_hash, input_shown)
    select $5::uuid, id, $6::uuid, 'open', $7::text, $3, $8::text, $9::text, $10::text, $11::numeric, $12::jsonb,
           $2, $13::smallint, $14::text, $15::text[], $16::jsonb, $17::text, $18::timestamptz, $19::timestamptz, $24::bytea,
           $25::jsonb
    from account
), queued as (
    insert into queue (job_id, pool, priority, tag, run_at, deadline, phase)
    select $5, $3, $13, tag, $20::timestamptz, $19, case when $20 is null then 'queued' else 'scheduled' end
    from account
), held as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select $21::uuid, id, 'hold', $5::text, 'available', 'held', $2, $18 from account where $2 > 0
), keyed as (
    insert into idempotency_keys (account_id, key, body_hash, job_id, created_at)
    select id, $22::text, $23::bytea, $5, $18 from account where $22 is not null
)
select tag as "tag!" from account
