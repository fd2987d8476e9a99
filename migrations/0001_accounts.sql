-- Who pays: accounts with their two balances, and the API keys that speak for them.

create table accounts (
    id                uuid primary key,             -- UUIDv7, made by us
    name              text not null,                -- for people; shown to operators
    -- Tokens free to spend. Only guarded updates touch it: never read, checked and written back.
    available_tokens  bigint not null default 0,
    -- Tokens set aside by open jobs; always the sum of their holds.
    held_tokens       bigint not null default 0,
    -- Virtual time of this account in each pool (text, image, video, audio), for fair queuing:
    -- the tag its next job would get. Advanced by the submit that already locks this row.
    vtime             bigint[] not null default '{0,0,0,0}',
    created_at        timestamptz not null,
    constraint accounts_available_not_negative check (available_tokens >= 0),
    constraint accounts_held_not_negative      check (held_tokens >= 0),
    constraint accounts_vtime_per_pool         check (cardinality(vtime) = 4)
);

create table api_keys (
    id           uuid primary key,                  -- UUIDv7
    account_id   uuid not null references accounts,
    role         text not null,                     -- member: acts for its account; operator: may also move tokens
    name         text not null,                     -- given by its owner
    prefix       text not null,                     -- first characters of the key, to recognise it by
    -- SHA-256 of the whole key. The key holds 256 random bits, so no slow hash is needed to resist guessing.
    secret_hash  bytea not null,
    created_at   timestamptz not null,
    revoked_at   timestamptz,                       -- set once; a revoked key is refused from the next request on
    constraint api_keys_role_known         check (role in ('member', 'operator')),
    constraint api_keys_secret_hash_unique unique (secret_hash)
);
create index api_keys_by_account on api_keys (account_id);
