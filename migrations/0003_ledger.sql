-- Every movement of tokens, once, for ever. One row is both sides of the entry: `debit` loses what `credit` gains,
-- so the books balance by their shape and the balances of an account are a fold over its rows.

create table ledger (
    id             uuid primary key,                -- UUIDv7
    account_id     uuid not null references accounts,
    kind           text not null,
    reference      text not null,                   -- natural key of the cause: a job's id, a grant's id
    debit          text not null,                   -- pot the tokens leave
    credit         text not null,                   -- pot the tokens enter
    amount_tokens  bigint not null,
    reason         text,                            -- why, for movements made by people
    created_at     timestamptz not null,
    constraint ledger_once            unique (kind, reference),
    constraint ledger_amount_positive check (amount_tokens > 0),
    constraint ledger_entry_known check ((kind, debit, credit) in (
        ('grant',   'platform',  'available'),      -- tokens given
        ('debit',   'available', 'platform'),       -- tokens taken back by an operator
        ('hold',    'available', 'held'),           -- set aside at submit
        ('charge',  'held',      'revenue'),        -- earned by a success
        ('release', 'held',      'available')       -- given back
    ))
);
create index ledger_by_account on ledger (account_id, id desc);

create function ledger_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only' using errcode = 'restrict_violation';
end $$;
create trigger ledger_append_only before update or delete or truncate on ledger
    for each statement execute function ledger_refuse_change();
