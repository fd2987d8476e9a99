-- Plans that end within $2 days of $1, for each owner who was not told of it; and again within $3.
select t.account as "account: AccountId", t.name, t.plan, t.ends_at, t.email as "email!", t.reference as "reference!"
from (
    select a.id as account, a.name, p.name as plan, s.ends_at, u.email,
           'subscription:' || s.id || ':' || d.days || ':' || u.id as reference
    from subscriptions s
    cross join lateral (
        select case when s.ends_at <= $1::timestamptz + $3::int4 * interval '1 day' then $3::int4 else $2::int4 end as days
    ) d
    join plans p on p.plan = s.plan
    join accounts a on a.id = s.account_id
    join members m on m.account_id = a.id and m.role = 'owner'
    join users u on u.id = m.user_id and u.email is not null and u.email_verified_at is not null
    where s.status = 'active' and s.ends_at > $1 and s.ends_at <= $1::timestamptz + $2::int4 * interval '1 day'
      and a.status = 'active'
      -- Whoever buys a plan of a day knows that it ends tomorrow.
      and s.ends_at - s.starts_at > d.days * interval '1 day'
      and not exists (select from subscriptions o
                      where o.account_id = s.account_id and o.plan = s.plan and o.status = 'active' and o.ends_at > s.ends_at)
) t
where not exists (select from mails where kind = 'subscription_ending' and reference = t.reference)
limit $4
