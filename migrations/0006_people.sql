-- People: who may speak for an account, in which role, how they prove it, and what was changed by whom.

-- What an account says of itself. The existing `name` is the company's or the person's.
alter table accounts
    add column status        text not null default 'active', -- suspended: by an operator; erasing, erased: on its owner's request
    add column description   text,
    add column website       text,
    add column phone         text,
    add column address       text,
    add column erase_requested_at timestamptz,               -- the owner asked for deletion; access ended at that moment
    add constraint accounts_status_known check (status in ('active', 'suspended', 'erasing', 'erased'));
create index accounts_erasing on accounts (erase_requested_at) where status = 'erasing';

create table users (
    id                 uuid primary key,            -- UUIDv7
    email              text,                        -- lower case; null once erased
    name               text,                        -- as people call them; null once erased
    password_hash      text,                        -- Argon2id, PHC string; null until an invitation is accepted, and once erased
    operator_role      text,                        -- what this person may do beyond their accounts; null for nearly everyone
    email_verified_at  timestamptz,                 -- no login before
    created_at         timestamptz not null,        -- when they registered or joined; anew, as long as nobody proved the address
    left_at            timestamptz,                 -- when they last belonged to an account; null while they belong to one
    erased_at          timestamptz,                 -- personal data gone, the row stays for what refers to it
    constraint users_email_unique         unique (email),
    constraint users_operator_role_known  check (operator_role in ('super_admin', 'moderator', 'analyst', 'finance')),
    constraint users_erased_whole check (erased_at is null or (email is null and name is null and password_hash is null))
);

-- Who belongs to which account. One person may belong to several.
create table members (
    account_id  uuid not null references accounts,
    user_id     uuid not null references users,
    role        text not null,
    created_at  timestamptz not null,
    constraint members_pkey       primary key (account_id, user_id),
    constraint members_role_known check (role in ('owner', 'admin', 'developer', 'viewer'))
);
create index members_by_user on members (user_id);

-- A login, and all the refresh tokens that followed from it: one family. Ending it ends every token of it at once.
create table sessions (
    id          uuid primary key,                   -- UUIDv7; in every access token of the family
    user_id     uuid not null references users,
    account_id  uuid not null references accounts,  -- which of the person's accounts it speaks for
    created_at  timestamptz not null,
    expires_at  timestamptz not null,               -- no refresh carries it beyond this
    revoked_at  timestamptz,
    revoked_why text,                               -- logout, password, reuse, removed, suspended, erased
    constraint sessions_revoked_whole check ((revoked_at is null) = (revoked_why is null))
);
create index sessions_by_user on sessions (user_id) where revoked_at is null;
create index sessions_by_account on sessions (account_id, id);

create table refresh_tokens (
    token_hash  bytea primary key,                  -- SHA-256; the token holds 256 random bits
    session_id  uuid not null references sessions on delete cascade,
    created_at  timestamptz not null,
    used_at     timestamptz                         -- exchanged for the next; shown once more, the whole family ends
);
create index refresh_tokens_by_session on refresh_tokens (session_id);

-- Single-use links sent by mail: to verify an address, to set a new password.
create table mail_links (
    token_hash  bytea primary key,                  -- SHA-256 of the token in the link
    purpose     text not null,
    user_id     uuid not null references users on delete cascade,
    created_at  timestamptz not null,
    expires_at  timestamptz not null,
    used_at     timestamptz,
    constraint mail_links_purpose_known check (purpose in ('verify_email', 'reset_password'))
);
create index mail_links_by_user on mail_links (user_id);

create table invitations (
    id           uuid primary key,                  -- UUIDv7
    account_id   uuid not null references accounts,
    email        text,                              -- lower case; null once its account is erased
    name         text,
    role         text not null,
    token_hash   bytea not null,                    -- SHA-256 of the token in the mailed link
    invited_by   uuid references users,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    accepted_at  timestamptz,
    revoked_at   timestamptz,
    constraint invitations_token_unique unique (token_hash),
    constraint invitations_role_known   check (role in ('admin', 'developer', 'viewer'))
);
create index invitations_by_account on invitations (account_id, created_at);
create unique index invitations_open on invitations (account_id, email) where accepted_at is null and revoked_at is null;

-- What a person agreed to, and when. Rows are never changed.
create table consents (
    user_id     uuid not null references users,
    document    text not null,                      -- personal_data
    version     text not null,
    given_at    timestamptz not null,
    constraint consents_pkey primary key (user_id, document, version)
);

-- API keys, beyond who they speak for.
alter table api_keys
    -- Permissions; null is those of a developer, for keys made before there were scopes. None at all is nothing.
    add column scopes           text[],
    add column created_by       uuid references users,
    add column expires_at       timestamptz,
    add column allowed_models   text[],             -- null is all
    add column allowed_ips      text[],             -- CIDR networks; null is all
    add column last_used_at     timestamptz,        -- to the minute
    -- The secret before the last rotation works until then.
    add column previous_hash    bytea,
    add column previous_until   timestamptz,
    -- Most tokens its jobs may hold or have been charged, in a day and month of UTC and over all.
    add column day_limit        bigint,
    add column month_limit      bigint,
    add column total_limit      bigint,
    -- What counts towards these limits; kept only for keys that have one. Submit adds the hold, the end of the job takes back what was released.
    add column day              date,
    add column day_tokens       bigint not null default 0,
    add column month            date,               -- its first day
    add column month_tokens     bigint not null default 0,
    add column total_tokens     bigint not null default 0,
    add constraint api_keys_previous_whole check ((previous_hash is null) = (previous_until is null)),
    add constraint api_keys_limits_not_negative check (least(day_limit, month_limit, total_limit) >= 0),
    add constraint api_keys_spent_not_negative check (least(day_tokens, month_tokens, total_tokens) >= 0);
create unique index api_keys_previous on api_keys (previous_hash) where previous_hash is not null;

-- Every change made by a person or an operator. Append-only; erasing an account empties what is personal in its rows.
create table audit_log (
    id          uuid primary key,                   -- UUIDv7
    account_id  uuid references accounts,           -- whose owner may read it; null for what concerns the platform alone
    actor_kind  text not null,
    actor       text,                               -- id of the user or key; null for the command line and the scheduler
    action      text not null,                      -- such as api_key.created
    target      text not null,                      -- id of what was changed
    before      jsonb,                              -- the fields that changed, as they were; never a secret
    after       jsonb,
    ip          text,
    request_id  text,                               -- named by the caller, so it may say anything
    created_at  timestamptz not null,
    constraint audit_log_actor_known check (actor_kind in ('user', 'key', 'operator', 'command_line', 'scheduler'))
);
create index audit_log_by_account on audit_log (account_id, id desc);
-- What is emptied when a person is erased, and what is forgotten when it is old.
create index audit_log_by_actor on audit_log (actor);
create index audit_log_by_target on audit_log (target);
create index audit_log_with_ip on audit_log (created_at) where ip is not null;

create function audit_log_refuse_change() returns trigger language plpgsql as $$
begin
    -- Emptied, and nothing else.
    if tg_op = 'UPDATE'
       and (new.before is null or new.before is not distinct from old.before)
       and (new.after is null or new.after is not distinct from old.after)
       and (new.ip is null or new.ip is not distinct from old.ip)
       and (new.request_id is null or new.request_id is not distinct from old.request_id)
       and (new.id, new.account_id, new.actor_kind, new.actor, new.action, new.target, new.created_at)
           is not distinct from
           (old.id, old.account_id, old.actor_kind, old.actor, old.action, old.target, old.created_at) then
        return new;
    end if;
    raise exception 'the audit log is append-only' using errcode = 'restrict_violation';
end $$;
create trigger audit_log_append_only before update or delete on audit_log for each row execute function audit_log_refuse_change();
create trigger audit_log_no_truncate before truncate on audit_log for each statement execute function audit_log_refuse_change();

-- Mails to be sent. What they say is sealed, for links in them open accounts; it is emptied when they have gone out.
create table mails (
    id           uuid primary key,                  -- UUIDv7; also in the Message-ID
    status       text not null default 'pending',
    kind         text not null,                     -- verify_email, reset_password, invitation, low_balance, grant_expiring, …
    reference    text not null,                     -- natural key of the cause: the same news is told once
    account_id   uuid references accounts,
    recipient    text,                              -- address; null when erased
    sealed       bytea,                             -- subject and text, encrypted with the deployment's key; null when sent
    tries        smallint not null default 0,
    run_at       timestamptz not null,
    lease_token  uuid,
    lease_until  timestamptz,
    last_error   text,
    created_at   timestamptz not null,
    settled_at   timestamptz,
    constraint mails_once         unique (kind, reference),
    constraint mails_status_known check (status in ('pending', 'sent', 'dead')),
    constraint mails_settled      check ((status = 'pending') = (settled_at is null)),
    constraint mails_emptied      check (status = 'pending' or sealed is null)
);
create index mails_due on mails (run_at) where status = 'pending';
-- What is forgotten when an account or a person is erased.
create index mails_by_account on mails (account_id, id) where account_id is not null and recipient is not null;
create index mails_by_recipient on mails (recipient) where recipient is not null;
create index mails_to_forget on mails (settled_at) where recipient is not null;

-- How often someone did something, where no row of their own holds it: addresses, logins. One instant is the whole state
-- (the generic cell rate algorithm): when the subject will have used up nothing again. Rows of the past say nothing.
create table rates (
    bucket   text not null,                         -- what is limited: requests, registrations, logins
    subject  text not null,                         -- network address, SHA-256 of an e-mail address, or both
    full_at  timestamptz not null,                  -- theoretical arrival time
    constraint rates_pkey primary key (bucket, subject)
) with (fillfactor = 50); -- no index on `full_at`: updates stay on their page (HOT), and few rows live long

-- Archives of everything about an account, made on request.
create table exports (
    id            uuid primary key,                 -- UUIDv7
    status        text not null default 'pending',
    account_id    uuid not null references accounts,
    requested_by  uuid references users,            -- null when a key asked
    tries         smallint not null default 0,      -- begun so far, crashed ones included
    storage_key   text,                             -- exports/{id}.zip; set before anything is stored, null once it is gone
    size_bytes    bigint,
    error         text,                             -- a word: why the last try, or all of it, failed
    created_at    timestamptz not null,
    finished_at   timestamptz,
    expires_at    timestamptz,                      -- the archive is deleted after this
    constraint exports_status_known check (status in ('pending', 'ready', 'failed', 'expired')),
    constraint exports_finished     check ((status = 'pending') = (finished_at is null))
);
-- An account waits for one at a time.
create unique index exports_one_pending on exports (account_id) where status = 'pending';
create index exports_stored on exports (id) where status <> 'pending' and storage_key is not null;
create index exports_by_account on exports (account_id, id desc);
