-- Writes a job that is over from the start, with the answer of an earlier one, or does nothing and returns no row. Nothing
-- is held or charged. The files are the same objects, so they end when the earlier job's do.
with original as (
    select j.* from result_cache c
    join jobs j on j.id = c.job_id
    where c.account_id = $1 and c.request_hash = $2::bytea and c.expires_at > $3::timestamptz
      and (j.expires_at is null or j.expires_at > $3)
), job as (
    insert into jobs (id, account_id, key_id, user_id, status, model, medium, task, provider, upstream_model, cost_usd, input, output,
                      held_tokens, charged_tokens, priority, webhook_url, webhook_events, metadata, traceparent, created_at,
                      started_at, finished_at, deadline, expires_at, input_shown, covered_by, retry_of, improves, iteration, wishes)
    select $4::uuid, account_id, $5::uuid, $16::uuid, 'succeeded', model, medium, task, provider, upstream_model, 0, input,
           output || '{"cached": true}', 0, 0, $6::smallint, $7::text, $8::text[], $9::jsonb, $10::text, $3, $3, $3,
           $11::timestamptz, expires_at, input_shown, 'cache', $17::uuid, $18::uuid, $19::smallint, $20::jsonb
    from original
    returning id, account_id
), shared as (
    insert into files (id, account_id, job_id, position, storage_key, preview_key, mime_type, size_bytes, width, height,
                       duration_seconds, created_at, expires_at)
    select $12::uuid, f.account_id, $4, 0, f.storage_key, f.preview_key, f.mime_type, f.size_bytes, f.width, f.height,
           f.duration_seconds, $3, f.expires_at
    from files f join original o on f.job_id = o.id
), told as (
    insert into notices (id, job_id, account_id, channel, endpoint_id, event, target, run_at, created_at)
    select $13::uuid, id, account_id, 'webhook', null::uuid, 'job.succeeded', $7, $3, $3
    from job
    where $7 is not null and ($8 = '{}' or 'job.succeeded' = any ($8))
    union all
    -- As in close.sql.
    select overlay($13::text placing substr(gen_random_uuid()::text, 20) from 20)::uuid, j.id, j.account_id, e.id::text, e.id,
           'job.succeeded', e.url, $3, $3
    from job j
    cross join lateral (
        select w.id, w.url from webhook_endpoints w
        where w.account_id = j.account_id and w.disabled_at is null and (w.events = '{}' or 'job.succeeded' = any (w.events))
        limit 1000
    ) e
), keyed as (
    insert into idempotency_keys (account_id, key, body_hash, job_id, created_at)
    select account_id, $14::text, $15::bytea, id, $3 from job where $14 is not null
)
select id from job
