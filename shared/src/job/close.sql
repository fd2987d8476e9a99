-- Ends those of the given jobs whose fence holds. One row back for each that was ended: its place in the call, from 1.
with asked as materialized (
    select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::smallint[], $5::text[], $6::jsonb[], $7::text[], $8::text[],
                         $9::boolean[], $10::bigint[], $11::uuid[], $12::uuid[], $13::uuid[], $14::uuid[], $15::integer[],
                         $16::jsonb[], $17::numeric[], $18::smallint[])
         with ordinality as c (job_id, fence, token, max_tries, status, output, error_code, error_message, error_retryable, charge,
                               charge_entry, release_entry, repay_entry, notice_id, file_count, metered, known_cost, begun, n)
), closed as (
    delete from queue q
    using asked c
    where q.job_id = c.job_id
      and case c.fence
          when 'held' then q.lease_token = c.token
          when 'untouched' then q.lease_token is null and q.attempt = 0
          when 'overdue' then q.deadline <= $19
          when 'lost' then q.lease_until <= $19 and q.tries + 1 >= c.max_tries
          else false
          end
    returning c.*, q.started_at, q.attempt, q.checkpoint
), job as (
    update jobs j
    set status = c.status, output = c.output, error_code = c.error_code, error_message = c.error_message,
        error_retryable = c.error_retryable, charged_tokens = c.charge, finished_at = $19, started_at = c.started_at,
        attempts = greatest(c.attempt, c.begun), metered = c.metered,
        -- An open job has a time already where its owner wants it no longer: whatever it made is due at once.
        expires_at = case when j.expires_at is not null then $19 when c.file_count > 0 then $20::timestamptz end
    from closed c
    where j.id = c.job_id
    returning c.*, j.id, j.account_id, j.key_id, j.key_counted, j.held_tokens, j.held_lots, j.drawn_tokens,
              j.held_tokens - c.charge as rest, j.cost_usd, j.created_at, j.webhook_url, j.webhook_events, j.request_hash,
              j.provider, j.upstream_model, j.dialog_id, j.dialog_said, j.expires_at
), gave_back as (
    -- What the jobs of limited keys gave back may be spent again, on the day and in the month it was held.
    select key_id, rest, (created_at at time zone 'utc')::date as day,
           date_trunc('month', created_at at time zone 'utc')::date as month
    from job
    where key_counted and rest > 0
), key as (
    -- Locks in one order, here as everywhere: keys before accounts, and each by their ids.
    select * from api_keys where id in (select key_id from gave_back)
    order by id
    for no key update
), key_money as (
    update api_keys k
    set day_tokens = b.day_tokens - least(b.of_day, b.day_tokens), month_tokens = b.month_tokens - least(b.of_month, b.month_tokens),
        total_tokens = b.total_tokens - least(b.of_all, b.total_tokens)
    from (
        select l.id, l.day_tokens, l.month_tokens, l.total_tokens, sum(g.rest) as of_all,
               coalesce(sum(g.rest) filter (where g.day = l.day), 0) as of_day,
               coalesce(sum(g.rest) filter (where g.month = l.month), 0) as of_month
        from key l join gave_back g on g.key_id = l.id
        group by l.id, l.day_tokens, l.month_tokens, l.total_tokens
    ) b
    where k.id = b.id
), due as (
    -- What these jobs move in each account. A charge takes what expires first and what was drawn on credit last.
    select account_id, sum(held_tokens)::bigint as hold, sum(rest)::bigint as rest,
           sum(least(drawn_tokens, rest))::bigint as repayable,
           lots_joined_all(lots_after(held_lots, charge)) filter (where cardinality(held_lots) > 0) as lots
    from job
    group by account_id
), purse as (
    select a.id, a.available_tokens, a.held_tokens, a.owed_tokens, a.expiring, a.enabled_endpoints, d.hold, d.rest, d.lots,
           -- What was drawn and comes back is paid back, unless it has been meanwhile.
           least(a.owed_tokens, d.repayable) as repaid
    from due d
    join accounts a on a.id = d.account_id and (select count(*) from key) >= 0
    order by a.id
    for no key update of a
), money as (
    -- Of the locked row alone: constraints are checked once against a mixture when this row has moved since the snapshot.
    update accounts a
    set held_tokens = p.held_tokens - p.hold, available_tokens = p.available_tokens + p.rest - p.repaid,
        owed_tokens = p.owed_tokens - p.repaid, expiring = lots_joined(p.expiring, coalesce(p.lots, '{}'))
    from purse p
    where a.id = p.id and p.hold > 0
), repaid as (
    select r.n, least(r.owed_tokens, r.upto) - least(r.owed_tokens, r.upto - r.repayable) as amount
    from (
        select j.n, p.owed_tokens, least(j.drawn_tokens, j.rest) as repayable,
               sum(least(j.drawn_tokens, j.rest)) over (partition by j.account_id order by j.n) as upto
        from job j join purse p on p.id = j.account_id
        where j.drawn_tokens > 0 and p.repaid > 0
    ) r
), booked as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
    select e.id, j.account_id, e.kind, j.id::text, e.debit, e.credit, e.amount, $19
    from job j
    cross join lateral (
        values (j.charge_entry, 'charge', 'held', 'revenue', j.charge),
               (j.release_entry, 'release', 'held', 'available', j.rest),
               (j.repay_entry, 'repay', 'available', 'credit',
                case when j.drawn_tokens > 0 then (select r.amount from repaid r where r.n = j.n) end)
    ) as e (id, kind, debit, credit, amount)
    where e.amount > 0
), attempted as (
    -- As an insert: work that nobody bills was begun without an intent, and an intent that was committed while this statement
    -- waited for its queue row is not in its snapshot, but it is found by its key.
    insert into attempts as a (job_id, attempt, provider, upstream_model, outcome, error, cost_usd, started_at, finished_at)
    select id, greatest(attempt, begun), provider, upstream_model,
           case status when 'succeeded' then 'succeeded' when 'failed' then 'failed' else 'abandoned' end, error_message,
           -- Unless it is known, the list price: the vendor may bill it.
           coalesce(known_cost, cost_usd), coalesce(started_at, $19), $19
    from job
    where greatest(attempt, begun) > 0
    on conflict on constraint attempts_pkey do update
    set outcome = excluded.outcome, error = coalesce(a.error, excluded.error), finished_at = excluded.finished_at,
        cost_usd = excluded.cost_usd
    where a.outcome is null
), stored as (
    insert into files (id, account_id, job_id, position, storage_key, preview_key, mime_type, size_bytes, width, height,
                       duration_seconds, created_at, expires_at)
    select f.id, j.account_id, j.id, f.position, f.storage_key, f.preview_key, f.mime_type, f.size_bytes, f.width, f.height,
           f.duration_seconds, $19, j.expires_at
    from unnest($21::integer[], $22::uuid[], $23::smallint[], $24::text[], $25::text[], $26::text[], $27::bigint[], $28::int[],
                $29::int[], $30::float8[])
         as f (n, id, position, storage_key, preview_key, mime_type, size_bytes, width, height, duration_seconds)
    join job j on j.n = f.n
), orphaned as (
    -- Stored, but the job ended otherwise: the files are nobody's, and the next clean-up deletes them.
    insert into files (id, account_id, job_id, position, storage_key, preview_key, mime_type, size_bytes, created_at, expires_at)
    select gen_random_uuid(), j.account_id, j.id, f.n - 1, f.file ->> 'storage_key', f.file ->> 'preview_key',
           f.file ->> 'mime_type', greatest((f.file ->> 'size_bytes')::numeric, 1)::bigint, $19, $19
    from job j,
         -- A checkpoint of another version must not keep its job from ending.
         jsonb_array_elements(case when jsonb_typeof(j.checkpoint #> '{output,files}') = 'array'
                              then j.checkpoint #> '{output,files}' else '[]' end) with ordinality as f (file, n)
    where j.status <> 'succeeded' and j.checkpoint ->> 'state' = 'stored' and f.file ->> 'storage_key' is not null
      and f.file ->> 'mime_type' is not null and jsonb_typeof(f.file -> 'size_bytes') = 'number'
), cached as (
    -- The same request within a day is answered with this. A result of several files is not; a copy would need ids for them.
    insert into result_cache (account_id, request_hash, job_id, created_at, expires_at)
    select distinct on (account_id, request_hash) account_id, request_hash, id, $19, $19 + interval '24 hours'
    from job
    where request_hash is not null and status = 'succeeded' and file_count <= 1
    order by account_id, request_hash
    on conflict (account_id, request_hash) do update
    set job_id = excluded.job_id, created_at = excluded.created_at, expires_at = excluded.expires_at
), told as (
    insert into notices (id, job_id, account_id, channel, endpoint_id, event, target, run_at, created_at)
    select notice_id, id, account_id, 'webhook', null::uuid, 'job.' || status, webhook_url, $19, $19
    from job
    where webhook_url is not null and (webhook_events = '{}' or 'job.' || status = any (webhook_events))
    union all
    -- Their ids are of the same instant as the job's own: a UUIDv7 with other random bits behind its time.
    select overlay(j.notice_id::text placing substr(gen_random_uuid()::text, 20) from 20)::uuid, j.id, j.account_id, e.id::text, e.id,
           'job.' || j.status, e.url, $19, $19
    from job j
    -- The row that is locked anyway says whether there is any.
    join purse p on p.id = j.account_id and p.enabled_endpoints > 0
    cross join lateral (
        select w.id, w.url from webhook_endpoints w
        where w.account_id = j.account_id and w.disabled_at is null and (w.events = '{}' or 'job.' || j.status = any (w.events))
        -- No bound, for an account has fewer; it keeps the planner to a look along the index for each job.
        limit 1000
    ) e
), dialog as (
    -- Locked after the accounts, each by its id, and read as its last writer left it. Where no job says anything in a dialog,
    -- nothing from here on reads or writes a row. A dialog that is gone, or keeps nothing, is not in this list.
    select d.id, d.message_count
    from (
        select distinct dialog_id from job
        where dialog_said is not null and status = 'succeeded' and (select count(*) from purse) >= 0
        order by dialog_id
    ) s
    cross join lateral (
        select id, message_count from dialogs where id = s.dialog_id and keeps_history for no key update
    ) d
), message as (
    -- What was asked and what was answered; of jobs that end together, the one that was submitted first comes first.
    select d.id as dialog_id, j.id as job_id, m.message,
           d.message_count + row_number() over (partition by d.id order by j.id, m.place) as n
    from dialog d
    join job j on j.dialog_id = d.id and j.dialog_said is not null and j.status = 'succeeded'
    cross join lateral jsonb_array_elements(j.dialog_said || jsonb_build_array(
        jsonb_build_object('role', 'assistant', 'content', j.output -> 'text')
        || case when j.output ? 'tool_calls' then jsonb_build_object('tool_calls', j.output -> 'tool_calls') else '{}' end
    )) with ordinality as m (message, place)
), said as (
    -- A dialog that is in disorder must not keep its job from ending.
    insert into dialog_messages (dialog_id, n, role, content, more, size_bytes, job_id, created_at)
    select dialog_id, n, message ->> 'role', coalesce(message -> 'content', 'null'),
           nullif(message - array['role', 'content'], '{}'), octet_length(message::text), job_id, $19
    from message
    on conflict on constraint dialog_messages_pkey do nothing
), longer as (
    update dialogs d set message_count = m.n, updated_at = $19
    from (select dialog_id, max(n) as n from message group by dialog_id) m
    where d.id = m.dialog_id
)
select n as "n!" from job
