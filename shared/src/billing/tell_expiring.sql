-- Grants with something left that expire within $2 days of $1, for each owner who was not told of it; and again within $3.
select t.account as "account: AccountId", t.name, t.tokens as "tokens!", t.expires_at as "expires_at!", t.email as "email!",
       t.reference as "reference!"
from (
    select a.id as account, a.name, l.tokens, l.expires_at, u.email,
           'grant:' || g.id || ':' || d.days || ':' || u.id as reference
    from accounts a
    cross join unnest(a.expiring) l
    cross join lateral (
        select case when l.expires_at <= $1::timestamptz + $3::int4 * interval '1 day' then $3::int4 else $2::int4 end as days
    ) d
    join grants g on g.id = l.grant_id
    join members m on m.account_id = a.id and m.role = 'owner'
    join users u on u.id = m.user_id and u.email is not null and u.email_verified_at is not null
    where a.next_expiry <= $1::timestamptz + $2::int4 * interval '1 day' and l.expires_at > $1
      and l.expires_at <= $1::timestamptz + $2::int4 * interval '1 day' and a.status = 'active' and g.source <> 'plan'
) t
where not exists (select from mails where kind = 'grant_expiring' and reference = t.reference)
limit $4
