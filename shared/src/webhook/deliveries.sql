-- Up to $6 notices of the account $1, newest first and older than $5. Found by the job where one is named, else by the endpoint, else
-- by the account: each is a walk along an index that stops when it has enough, and only one of them is taken.
select n.id as "id!: _", n.endpoint_id as "endpoint: _", nullif(n.job_id, n.id) as "job: _", n.event as "event!", n.status as "status!",
       n.target as "target!", n.tries as "tries!", n.log as "log!", n.run_at as "run_at!", n.created_at as "created_at!",
       n.settled_at as "settled_at?"
from (
    (
        select * from notices
        where $3::uuid is not null and job_id = $3 and account_id = $1::uuid and ($2::uuid is null or endpoint_id = $2)
          and ($4::text is null or status = $4) and id < coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by id desc limit $6
    )
    union all
    (
        select * from notices
        where $3 is null and $2 is not null and endpoint_id = $2 and account_id = $1
          and ($4 is null or status = $4) and id < coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by id desc limit $6
    )
    union all
    (
        select * from notices
        where $3 is null and $2 is null and account_id = $1
          and ($4 is null or status = $4) and id < coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by id desc limit $6
    )
) n
order by n.id desc
