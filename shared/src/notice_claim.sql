-- Leases up to $2 due notices: of each account at most $5 at a time, then by how long they have waited.
with recursive accounts as (
    -- The accounts with something pending and when their first is due, by jumps along the index and not by reading every
    -- notice.
    (select account_id, run_at from notices where status = 'pending' order by account_id, run_at limit 1)
    union all
    select next.account_id, next.run_at
    from accounts a
    cross join lateral (
        select n.account_id, n.run_at from notices n
        where n.status = 'pending' and n.account_id > a.account_id
        order by n.account_id, n.run_at
        limit 1
    ) next
), due as (
    select share.id
    from accounts a
    cross join lateral (
        select n.id, n.run_at from notices n
        where n.account_id = a.account_id and n.status = 'pending' and n.run_at <= $1
          and (n.lease_until is null or n.lease_until <= $1)
        order by n.run_at
        limit greatest($5 - (select count(*) from notices held
                             where held.account_id = a.account_id and held.status = 'pending' and held.run_at <= $1
                               and held.lease_until > $1), 0)
    ) share
    where a.run_at <= $1
    order by share.run_at
    limit $2
), locked as (
    -- Only what is taken is locked; another deliverer that chose the same meanwhile finds it leased.
    select id from notices
    where id = any (array(select id from due)) and status = 'pending' and (lease_until is null or lease_until <= $1)
    for update skip locked
)
update notices n set lease_token = $4, lease_until = $3
where n.id = any (array(select id from locked))
returning n.id as "id: _", n.lease_token as "token!: _", n.job_id as "job: _", n.account_id as "account: _", n.event,
          n.target, n.tries, n.created_at
