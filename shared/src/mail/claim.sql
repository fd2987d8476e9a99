-- Leases up to $2 due mails, those that wait longest first. Few are due at a time and none is anybody's burden, so accounts
-- have no shares here.
with due as (
    select id from mails
    where status = 'pending' and run_at <= $1 and (lease_until is null or lease_until <= $1)
    order by run_at, id
    limit $2
    for update skip locked
)
update mails m set lease_token = $4, lease_until = $3
where m.id = any (array(select id from due))
returning m.id as "id: _", m.lease_token as "token!: _", m.kind, m.recipient, m.sealed, m.tries
