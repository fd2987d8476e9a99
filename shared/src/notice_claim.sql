-- Leases up to $2 due notices. Notices that share a receiver are a lane: those of an endpoint, or those that jobs themselves ask
-- for at one host. Of a lane at most $5 are under way and of an account at most $6, and who has least under way is first: an
-- account before another, a lane before another of the same account. Then it is how long they have waited.
with recursive lanes as (
    -- The lanes with something pending and when their first is due, by jumps along the index and not by reading every notice.
    (select account_id, notice_lane(endpoint_id, target) as lane, run_at
     from notices
     where status = 'pending'
     order by account_id, notice_lane(endpoint_id, target), run_at
     limit 1)
    union all
    select next.account_id, next.lane, next.run_at
    from lanes l
    cross join lateral (
        select n.account_id, notice_lane(n.endpoint_id, n.target) as lane, n.run_at
        from notices n
        where n.status = 'pending' and (n.account_id, notice_lane(n.endpoint_id, n.target)) > (l.account_id, l.lane)
        order by n.account_id, notice_lane(n.endpoint_id, n.target), n.run_at
        limit 1
    ) next
), head as (
    -- What is under way was the first of its lane when it was leased, so it is among these, and so is all that may follow. The
    -- id counts, too: what ended by one statement is due in the same instant.
    select l.account_id, l.lane, n.id, n.run_at, n.is_leased,
           count(*) filter (where n.is_leased) over (partition by l.account_id, l.lane) as busy_in_lane,
           count(*) filter (where n.is_leased) over (partition by l.account_id) as busy
    from lanes l
    cross join lateral (
        select n.id, n.run_at, coalesce(n.lease_until > $1, false) as is_leased
        from notices n
        where n.account_id = l.account_id and notice_lane(n.endpoint_id, n.target) = l.lane
          and n.status = 'pending' and n.run_at <= $1
        order by n.run_at, n.id
        limit 2 * $5::bigint
    ) n
    where l.run_at <= $1
), in_lane as (
    select h.*, h.busy_in_lane + row_number() over (partition by h.account_id, h.lane order by h.run_at, h.id) as place_in_lane
    from head h
    where not h.is_leased
), in_account as (
    select i.*, i.busy + row_number() over (partition by i.account_id order by i.place_in_lane, i.run_at, i.id) as place
    from in_lane i
    where i.place_in_lane <= $5
), locked as (
    -- Only what is taken is locked; another deliverer that chose the same meanwhile finds it leased.
    select id from notices
    where id = any (array(select id from in_account where place <= $6 order by place, run_at limit $2))
      and status = 'pending' and (lease_until is null or lease_until <= $1)
    for update skip locked
), leased as (
    update notices n set lease_token = $4, lease_until = $3
    where n.id = any (array(select id from locked))
    returning n.*
)
-- An endpoint is asked where it is now: what waited goes where its owner has moved it, with the secrets of today. Of one that was
-- deleted or disabled there is no secret.
select n.id as "id!: _", n.lease_token as "token!: _", n.job_id as "job!: _", n.account_id as "account!: _", n.event as "event!",
       n.endpoint_id as "endpoint: _", coalesce(e.url, n.target) as "target!", n.tries as "tries!", n.created_at as "created_at!",
       j.traceparent as "traceparent?", e.secret as "secret?",
       case when e.previous_until > $1 then e.previous_secret end as "previous_secret?"
from leased n
left join webhook_endpoints e on e.id = n.endpoint_id and e.disabled_at is null
left join jobs j on j.id = n.job_id
