-- Revenue and cost from day $2 to day $3, by $1: days up to $4 from the roll-ups, the moments from $5 up to $6 as they are.
with counted as (
    select u.day, u.account_id, u.model, u.provider, u.charged_tokens as tokens, 0 as attempts, 0 as failed, 0 as cost_usd
    from usage_daily u
    where u.day between $2::date and least($3, coalesce($4::date, '-infinity'))
    union all
    select (j.finished_at at time zone 'utc')::date, j.account_id, j.model, j.provider, j.charged_tokens, 0, 0, 0
    from jobs j
    where j.finished_at >= $5 and j.finished_at < $6
    union all
    select c.day, c.account_id, c.model, c.provider, 0, c.attempts, c.failed, c.cost_usd
    from cost_daily c
    where c.day between $2::date and least($3, coalesce($4::date, '-infinity'))
    union all
    select (t.finished_at at time zone 'utc')::date, j.account_id, j.model, t.provider, 0, 1,
           (t.outcome <> 'succeeded')::int, coalesce(t.cost_usd, 0)
    from attempts t
    join jobs j on j.id = t.job_id
    where t.finished_at >= $5 and t.finished_at < $6
), grouped as (
    select case $1 when 'model' then model when 'provider' then provider when 'day' then day::text end as word,
           case $1 when 'account' then account_id end as account_id, sum(tokens)::bigint as tokens,
           sum(attempts)::bigint as attempts, sum(failed)::bigint as failed, sum(cost_usd) as cost_usd
    from counted
    group by 1, 2
)
select coalesce(g.word, a.name) as word, g.account_id as "account?: AccountId", g.tokens as "revenue_tokens!",
       g.cost_usd as "cost_usd!", g.attempts as "attempts!", g.failed as "failed_attempts!"
from grouped g
left join accounts a on a.id = g.account_id
order by case when $1 = 'day' then g.word end, g.tokens desc, g.cost_usd desc, g.word, g.account_id
