-- Ends job $1, if the fence $2 holds: one row back, or none and nothing written.
with closed as (
    delete from queue q
    where q.job_id = $1
      and case $2::text
          when 'held' then q.lease_token = $3
          when 'untouched' then q.lease_token is null and q.attempt = 0
          when 'overdue' then q.deadline <= $11
          when 'lost' then q.lease_until <= $11 and q.tries + 1 >= $4::smallint
          else false
          end
    returning q.job_id, q.started_at, q.attempt, q.checkpoint
), job as (
    update jobs j
    set status = $5, output = $6, error_code = $7, error_message = $8, error_retryable = $9, charged_tokens = $10,
        finished_at = $11, started_at = c.started_at, attempts = c.attempt,
        expires_at = case when cardinality($16::uuid[]) > 0 then $12::timestamptz end, metered = $24
    from closed c
    where j.id = c.job_id
    returning j.id, j.account_id, j.key_id, j.key_counted, j.held_tokens, j.held_lots, j.drawn_tokens, j.held_tokens - $10 as rest, j.cost_usd, j.created_at,
              j.webhook_url, j.webhook_events, j.request_hash, c.attempt, c.checkpoint
), key as (
    -- What a limited key's job gave back may be spent again, on the day and in the month it was held. Before the account's row.
    update api_keys k
    set day_tokens = k.day_tokens - case when k.day = s.day then least(j.rest, k.day_tokens) else 0 end,
        month_tokens = k.month_tokens - case when k.month = s.month then least(j.rest, k.month_tokens) else 0 end,
        total_tokens = k.total_tokens - least(j.rest, k.total_tokens)
    from job j
    cross join lateral (select (j.created_at at time zone 'utc')::date as day,
                               date_trunc('month', j.created_at at time zone 'utc')::date as month) s
    where k.id = j.key_id and j.rest > 0 and j.key_counted
    returning k.id
), purse as (
    -- The charge takes what expires first and what was drawn on credit last; what was drawn and comes back is paid back.
    select a.id, a.available_tokens, a.held_tokens, a.owed_tokens, j.rest, j.held_tokens as hold,
           least(a.owed_tokens, j.drawn_tokens, j.rest) as repaid, lots_joined(a.expiring, lots_after(j.held_lots, $10)) as lots
    from job j
    join accounts a on a.id = j.account_id and (select count(*) from key) >= 0
    for no key update of a
), money as (
    -- Of the locked row alone: constraints are checked once against a mixture when this row has moved since the snapshot.
    update accounts a
    set held_tokens = p.held_tokens - p.hold, available_tokens = p.available_tokens + p.rest - p.repaid,
        owed_tokens = p.owed_tokens - p.repaid, expiring = p.lots
    from purse p
    where a.id = p.id and p.hold > 0
    returning a.id, p.repaid
), charged as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select $13::uuid, account_id, 'charge', id::text, 'held', 'revenue', $10, $11 from job where $10 > 0
), released as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select $14::uuid, account_id, 'release', id::text, 'held', 'available', rest, $11 from job where rest > 0
), repaid as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select $25::uuid, m.id, 'repay', j.id::text, 'available', 'credit', m.repaid, $11 from money m, job j where m.repaid > 0
), attempted as (
    update attempts a
    set outcome = case $5 when 'succeeded' then 'succeeded' when 'failed' then 'failed' else 'abandoned' end,
        error = coalesce(a.error, $8), finished_at = $11,
        -- Unless it is known, the list price: the vendor may bill it.
        cost_usd = coalesce($26::numeric, j.cost_usd)
    from job j
    where a.job_id = j.id and a.attempt = j.attempt and a.outcome is null
), stored as (
    insert into files (id, account_id, job_id, position, storage_key, preview_key, mime_type, size_bytes, width, height,
                       duration_seconds, created_at, expires_at)
    select f.id, j.account_id, j.id, f.n - 1, f.storage_key, f.preview_key, f.mime_type, f.size_bytes, f.width, f.height,
           f.duration_seconds, $11, $12
    from job j,
         unnest($16::uuid[], $17::text[], $18::text[], $19::text[], $20::bigint[], $21::int[], $22::int[], $23::float8[])
         with ordinality as f (id, storage_key, preview_key, mime_type, size_bytes, width, height, duration_seconds, n)
), orphaned as (
    -- Stored, but the job ended otherwise: the files are nobody's, and the next clean-up deletes them.
    insert into files (id, account_id, job_id, position, storage_key, preview_key, mime_type, size_bytes, created_at, expires_at)
    select gen_random_uuid(), j.account_id, j.id, f.n - 1, f.file ->> 'storage_key', f.file ->> 'preview_key',
           f.file ->> 'mime_type', greatest((f.file ->> 'size_bytes')::numeric, 1)::bigint, $11, $11
    from job j,
         -- A checkpoint of another version must not keep its job from ending.
         jsonb_array_elements(case when jsonb_typeof(j.checkpoint #> '{output,files}') = 'array'
                              then j.checkpoint #> '{output,files}' else '[]' end) with ordinality as f (file, n)
    where $5 <> 'succeeded' and j.checkpoint ->> 'state' = 'stored' and f.file ->> 'storage_key' is not null
      and f.file ->> 'mime_type' is not null and jsonb_typeof(f.file -> 'size_bytes') = 'number'
), cached as (
    -- The same request within a day is answered with this. A result of several files is not; a copy would need ids for them.
    insert into result_cache (account_id, request_hash, job_id, created_at, expires_at)
    select account_id, request_hash, id, $11, $11 + interval '24 hours'
    from job
    where request_hash is not null and $5 = 'succeeded' and cardinality($16) <= 1
    on conflict (account_id, request_hash) do update
    set job_id = excluded.job_id, created_at = excluded.created_at, expires_at = excluded.expires_at
), told as (
    insert into notices (id, job_id, account_id, channel, event, target, run_at, created_at)
    select $15::uuid, id, account_id, 'webhook', 'job.' || $5, webhook_url, $11, $11
    from job
    where webhook_url is not null and (webhook_events = '{}' or 'job.' || $5 = any (webhook_events))
)
select id from job
