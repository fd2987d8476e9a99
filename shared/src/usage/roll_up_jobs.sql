-- Rolls up the jobs that ended on day $1: from $2, up to $3.
insert into usage_daily (day, account_id, model, provider, key_id, user_id, jobs, succeeded, cached, charged_tokens,
                         prompt_tokens, completion_tokens, images, seconds, characters)
select $1::date, j.account_id, j.model, j.provider, j.key_id, j.user_id, count(*),
       count(*) filter (where j.status = 'succeeded'),
       -- A success without an attempt: how jobs of before `covered_by` are known.
       count(*) filter (where j.status = 'succeeded' and j.attempts = 0),
       sum(j.charged_tokens), sum(metered_count(j.metered, 'prompt_token')),
       sum(metered_count(j.metered, 'completion_token')), sum(metered_count(j.metered, 'image')),
       sum(coalesce((j.metered ->> 'second')::numeric, 0)), sum(metered_count(j.metered, 'character'))
from jobs j
where j.finished_at >= $2 and j.finished_at < $3
group by j.account_id, j.model, j.provider, j.key_id, j.user_id
