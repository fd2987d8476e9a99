-- Leases up to $3 jobs of pool $1: those whose wait is over, then new ones in fair order.
with due as (
    select job_id from queue
    where pool = $1 and lease_token is null and run_at <= $2 and started_at is not null
    order by run_at
    limit $3
    for update skip locked
), ready as (
    select job_id, tag from queue
    where pool = $1 and lease_token is null and run_at is null
    order by priority, tag, job_id
    limit $3 - (select count(*) from due)
    for update skip locked
), picked as (
    -- As one array, and not as a table to join with: the planner cannot guess how few they are, and would read the whole
    -- queue to find them.
    select array(select job_id from due) || array(select job_id from ready) as ids
), clock as (
    -- The pool's virtual time follows its newest claim. A neighbour that is just doing the same need not be waited for.
    update pools set vnow = newest.tag
    from (select max(tag) as tag from ready) newest
    where pool in (select pool from pools where pool = $1 and vnow < newest.tag for update skip locked)
), claimed as (
    update queue q
    set lease_token = ($6::uuid[])[array_position((select ids from picked), q.job_id)], lease_until = $4, worker = $5,
        run_at = null, started_at = coalesce(q.started_at, $2),
        phase = case when q.checkpoint is null then 'starting' else q.phase end
    where q.job_id = any ((select ids from picked)::uuid[])
    returning q.*
)
select c.job_id as "job: JobId", c.lease_token as "token!: LeaseToken", c.tries, c.attempt, c.cancel_requested, c.deadline,
       c.checkpoint as "checkpoint: Json<Value>", j.account_id as "account: AccountId", j.model, j.task, j.provider,
       j.upstream_model, j.input, j.held_tokens, j.traceparent, j.price_percent, j.cost_usd, j.price_version,
       p.rules as "price_rules?"
from claimed c
join jobs j on j.id = c.job_id
left join prices p on p.model = j.model and p.version = j.price_version
order by array_position((select ids from picked), c.job_id)
