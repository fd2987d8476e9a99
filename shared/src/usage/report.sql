-- What account $1 used from day $3 to day $4, by $2: days up to $5 from the roll-ups, the moments from $6 up to $7 from its jobs.
with used as (
    select u.day, u.model, u.key_id, u.user_id, u.jobs, u.succeeded, u.cached, u.charged_tokens, u.prompt_tokens,
           u.completion_tokens, u.images, u.seconds, u.characters
    from usage_daily u
    where u.account_id = $1 and u.day between $3::date and least($4, coalesce($5::date, '-infinity'))
    union all
    select (j.finished_at at time zone 'utc')::date, j.model, j.key_id, j.user_id, 1,
           (j.status = 'succeeded')::int, (j.status = 'succeeded' and j.attempts = 0)::int, j.charged_tokens,
           metered_count(j.metered, 'prompt_token'), metered_count(j.metered, 'completion_token'),
           metered_count(j.metered, 'image'), coalesce((j.metered ->> 'second')::numeric, 0),
           metered_count(j.metered, 'character')
    from jobs j
    where j.account_id = $1 and j.finished_at >= $6 and j.finished_at < $7
), grouped as (
    select case $2 when 'model' then model when 'day' then day::text end as word,
           case $2 when 'key' then key_id when 'user' then user_id end as id,
           sum(jobs)::bigint as jobs, sum(succeeded)::bigint as succeeded, sum(cached)::bigint as cached,
           sum(charged_tokens)::bigint as charged, sum(prompt_tokens)::bigint as prompt_tokens,
           sum(completion_tokens)::bigint as completion_tokens, sum(images)::bigint as images, sum(seconds) as seconds,
           sum(characters)::bigint as characters
    from used
    where $8::text is null or model = $8
    group by 1, 2
)
select g.word, g.id, k.name as "key_name?", k.prefix as "key_prefix?", p.name as "user_name?", g.jobs as "jobs!",
       g.succeeded as "succeeded!", g.cached as "cached!", g.charged as "charged!", g.prompt_tokens as "prompt_tokens!",
       g.completion_tokens as "completion_tokens!", g.images as "images!", g.seconds as "seconds!",
       g.characters as "characters!"
from grouped g
left join api_keys k on $2 = 'key' and k.id = g.id
left join users p on $2 = 'user' and p.id = g.id
order by case when $2 = 'day' then g.word end, g.charged desc, g.jobs desc, g.word, g.id
