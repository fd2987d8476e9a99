-- Admits orders of one pool and writes the jobs of those that are accepted. One row back for each order whose account exists.
with admitted as materialized (
    select * from admit($1, $2, $3, $4, $5, $6, $7, $8, $9)
), accepted as materialized (
    select a.hold, a.cover, a.tag, a.lots, a.drawn, a.counted, o.*
    from admitted a
    join unnest($4::uuid[], $6::uuid[], $7::timestamptz[], $9::text[], $10::bytea[], $11::uuid[], $12::uuid[], $13::text[], $14::text[],
                $15::text[], $16::text[], $17::numeric[], $18::jsonb[], $19::jsonb[], $20::integer[], $21::smallint[],
                $22::smallint[], $23::text[], $24::text[], $25::jsonb[], $26::text[], $27::bytea[], $28::timestamptz[],
                $29::uuid[], $30::uuid[], $31::jsonb[], $32::text[], $33::uuid[], $34::uuid[], $35::smallint[], $36::jsonb[],
                $37::uuid[], $38::jsonb[])
         with ordinality as o (account_id, key_id, start_at, idempotency_key, body_hash, job_id, user_id, model, task, provider,
                               upstream_model, cost_usd, input, input_shown, price_version, price_percent, priority,
                               webhook_url, webhook_events, metadata, traceparent, request_hash, deadline, hold_entry,
                               borrow_entry, fallbacks, sending_key, retry_of, improves, iteration, wishes, dialog_id, dialog_said,
                               n) using (n)
    where a.refusal is null
), job as (
    insert into jobs (id, account_id, key_id, user_id, status, model, medium, task, provider, upstream_model, cost_usd, input,
                      input_shown, held_tokens, held_lots, drawn_tokens, key_counted, covered_by, price_version, price_percent,
                      priority, webhook_url, webhook_events, metadata, traceparent, created_at, deadline, request_hash,
                      fallbacks, retry_of, improves, iteration, wishes, dialog_id, dialog_said)
    select job_id, account_id, key_id, user_id, 'open', model, $1, task, provider, upstream_model, cost_usd, input, input_shown,
           hold, lots, drawn, counted, cover, price_version, price_percent, priority, webhook_url,
           string_to_array(webhook_events, ','), metadata, traceparent, $3, deadline, request_hash, fallbacks,
           retry_of, improves, iteration, wishes, dialog_id, dialog_said
    from accepted
), queued as (
    insert into queue (job_id, pool, priority, tag, run_at, deadline, phase)
    select job_id, $1, priority, tag, start_at, deadline, case when start_at is null then 'queued' else 'scheduled' end
    from accepted
), held as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select e.id, a.account_id, e.kind, a.job_id::text, e.debit, e.credit, e.amount, $3
    from accepted a
    cross join lateral (values (a.borrow_entry, 'borrow', 'credit', 'available', a.drawn),
                               (a.hold_entry, 'hold', 'available', 'held', a.hold)) as e (id, kind, debit, credit, amount)
    where e.amount > 0
), keyed as (
    insert into idempotency_keys (account_id, key, body_hash, job_id, created_at)
    select account_id, idempotency_key, body_hash, job_id, $3 from accepted where idempotency_key is not null
), sent as (
    -- The same request may be meant twice; the newest one is what is found when it is sent again.
    insert into idempotency_keys (account_id, key, body_hash, job_id, created_at)
    select distinct on (account_id, sending_key) account_id, sending_key, body_hash, job_id, $3
    from accepted where sending_key is not null
    order by account_id, sending_key, n desc
    on conflict on constraint idempotency_keys_pkey do update
    set body_hash = excluded.body_hash, job_id = excluded.job_id, created_at = excluded.created_at
)
select n as "n!", refusal, hold as "hold!", spendable as "spendable!", room, per_hour, rate_at
from admitted
