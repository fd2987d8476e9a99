-- A page of an account's jobs, newest first; a null filter narrows nothing. No queue positions: they cost a count each.
select j.id as "id: JobId", j.account_id as "account: AccountId",
       case when j.status <> 'open' then j.status when q.started_at is null then 'queued' else 'running' end as "status!",
       coalesce(q.phase, j.status) as "phase!", q.progress as "progress?",
       null::bigint as "queue_position?",
       j.model, j.medium, j.task, coalesce(j.input_shown, j.input) as "input!", j.output, j.error_code, j.error_message, j.error_retryable, j.held_tokens,
       j.charged_tokens, coalesce(q.attempt, j.attempts) as "attempts!", j.metadata, j.created_at,
       coalesce(j.started_at, q.started_at) as "started_at?", j.finished_at, j.deadline, j.expires_at, j.provider, j.upstream_model,
       q.run_at as "run_at?",
       case when q.checkpoint ->> 'state' in ('submitting', 'pending', 'stored') then q.begun_at end as "begun_at?",
       j.retry_of as "retry_of: JobId", j.improves as "improves: JobId", j.iteration,
       j.dialog_id as "dialog: DialogId"
from jobs j
left join queue q on q.job_id = j.id
where j.account_id = $1
  and ($2::text is null
       or case when j.status <> 'open' then j.status when q.started_at is null then 'queued' else 'running' end = $2)
  and ($3::text is null or j.model = $3)
  and ($4::text is null or j.medium = $4)
  and ($5::timestamptz is null or j.created_at > $5)
  and ($6::jsonb is null or j.metadata @> $6)
  and j.id < coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
order by j.id desc
limit $8
