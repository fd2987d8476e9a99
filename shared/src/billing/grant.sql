-- Gives account $1 tokens, once per reference. Debts are paid out of them first; the rest is spendable at once.
with purse as (
    select id, available_tokens, owed_tokens, held_tokens, expiring, least(owed_tokens, $2::bigint) as repaid
    from accounts where id = $1 and status <> 'erased'
    for no key update
), granted as (
    insert into grants (id, account_id, source, reference, tokens, expires_at, reason, created_at)
    select $3::uuid, id, $4::text, $5::text, $2, $6::timestamptz, $7::text, $8::timestamptz from purse
), account as (
    update accounts a
    -- Of the locked row alone: constraints are checked once against a mixture when this row has moved since the snapshot.
    set available_tokens = p.available_tokens + $2 - p.repaid,
        owed_tokens = p.owed_tokens - p.repaid,
        expiring = case when $6 is null or $2 = p.repaid then p.expiring
                   else lots_joined(p.expiring, array[row($3, $6, $2 - p.repaid)::lot]) end
    from purse p
    where a.id = p.id
    returning a.id, p.repaid
), entries as (
    insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, reason, created_at)
    select e.id, a.id, e.kind, e.reference, e.debit, e.credit, e.amount, $7, $8
    from account a
    cross join lateral (values ($9::uuid, 'grant', $5, 'platform', 'available', $2),
                               ($10::uuid, 'repay', 'grant:' || $5, 'available', 'credit', a.repaid))
               as e (id, kind, reference, debit, credit, amount)
    where e.amount > 0
)
select id from account
