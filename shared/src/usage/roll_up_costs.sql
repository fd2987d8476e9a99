-- Rolls up the attempts that ended on day $1: from $2, up to $3.
insert into cost_daily (day, account_id, model, provider, attempts, failed, cost_usd)
select $1::date, j.account_id, j.model, t.provider, count(*), count(*) filter (where t.outcome <> 'succeeded'),
       coalesce(sum(t.cost_usd), 0)
from attempts t
join jobs j on j.id = t.job_id
where t.finished_at >= $2 and t.finished_at < $3
group by j.account_id, j.model, t.provider
