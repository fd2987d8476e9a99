-- Leases up to $3 jobs of pool $1: those whose wait is over, then new ones in fair order. Each walk begins at its floor: what is
-- below has been claimed, and as long as somebody holds an old snapshot its entries cannot be cleared away.
with unwaited as (
    -- The disk need not be waited for: a claim that a crash undoes is made again, under another token. Whatever the worker writes
    -- under this one is flushed with it or after it.
    select set_config('synchronous_commit', 'off', true) as off
), due as (
    select job_id from queue
    where pool = $1 and lease_token is null and run_at >= $7 and run_at <= $2 and started_at is not null
    order by run_at
    limit $3
    for update skip locked
), ready as (
    select r.job_id, r.tag
    from unnest($8::bigint[]) with ordinality as floor (tag, n)
    cross join lateral (
        select q.job_id, q.tag from queue q
        where q.pool = $1 and q.lease_token is null and q.run_at is null and q.priority = (floor.n - 1)::smallint and q.tag >= floor.tag
        order by q.tag, q.job_id
        limit $3
        for update skip locked
    ) r
    limit $3 - (select count(*) from due)
), clock as (
    -- The pool's virtual time follows its newest claim. A neighbour that is just doing the same need not be waited for.
    update pools set vnow = newest.tag
    from (select max(tag) as tag from ready) newest
    where $9 and pool in (select pool from pools where pool = $1 and vnow < newest.tag for update skip locked)
), claimed as (
    -- By way of arrays, and not of a table to join with: the planner cannot guess how few they are, and would read the whole
    -- queue to find them.
    update queue q
    set lease_token = p.token, lease_until = $4, worker = $5, run_at = null, started_at = coalesce(q.started_at, $2),
        phase = case when q.checkpoint is null then 'starting' else q.phase end
    from unnest(array(select job_id from due) || array(select job_id from ready), $6::uuid[])
         with ordinality as p (job_id, token, place)
    where q.job_id = p.job_id
    returning q.job_id, q.lease_token, q.tries, q.attempt, q.cancel_requested, q.deadline, q.checkpoint, q.provider_key_id, q.begun_at,
              p.place
)
select c.job_id as "job: JobId", c.lease_token as "token!: LeaseToken", c.tries, c.attempt, c.cancel_requested, c.deadline,
       c.checkpoint as "checkpoint: Json<Value>", j.account_id as "account: AccountId", j.model, j.task, j.provider,
       j.upstream_model, j.input, j.held_tokens, j.traceparent, j.price_percent, j.cost_usd, j.price_version,
       p.rules as "price_rules?", j.fallbacks as "fallbacks: Json<Vec<Fallback>>",
       c.provider_key_id as "provider_key: ProviderKeyId", c.begun_at
from unwaited u
cross join claimed c
join jobs j on j.id = c.job_id
left join prices p on p.model = j.model and p.version = j.price_version
order by c.place
