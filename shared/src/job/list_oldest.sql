-- A page of an account's jobs of one medium, oldest first. No queue positions: they cost a count each.
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
where j.account_id = $1 and j.medium = $2 and j.id > coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
order by j.id
limit $4
