-- Keys of an account, newest first; those with an operator's permissions only for operators and those who run it ($5).
select k.id as "id: _", k.account_id as "account: _", k.role, k.name, k.prefix, k.scopes, k.expires_at, k.allowed_models,
       k.allowed_ips, k.day_limit, k.month_limit, k.total_limit, k.created_by as "created_by: _", k.created_at, k.last_used_at,
       k.previous_until, k.revoked_at, k.total_tokens,
       -- What was counted on another day or in another month counts no more.
       case when k.day = $7::date then k.day_tokens else 0 end as "day_tokens!",
       case when k.month = date_trunc('month', $7::date)::date then k.month_tokens else 0 end as "month_tokens!"
from api_keys k
where ($1::uuid is null or k.account_id = $1)
  and ($2::uuid is null or k.id = $2)
  and ($3::uuid is null or k.id < $3)
  and ($4::bool or k.revoked_at is null)
  and ($5::bool or (k.role = 'member' and not exists (select from unnest(k.scopes) scope where scope like 'admin.%')))
order by k.id desc
limit $6
