-- Conversations: what was said and answered in them, so that the next question need not repeat it.

create table dialogs (
    id             uuid primary key,              -- UUIDv7
    account_id     uuid not null references accounts,
    user_id        uuid references users,         -- the person who began it and alone sees it; null where a key did
    key_id         uuid references api_keys,      -- the key that began it; every key of the account sees it
    title          text,                          -- for people
    model          text,                          -- our public name, for jobs that name none; null: each names its own
    system         text,                          -- instructions that go before everything; null: none
    uses_history   boolean not null default true, -- whether what was said goes before what is said next
    keeps_history  boolean not null default true, -- whether what is said is kept; if not, nothing goes before it either
    message_count  integer not null default 0,    -- messages that are kept: their numbers are 1 to this
    created_at     timestamptz not null,
    updated_at     timestamptz not null,          -- last change or last message; on no index, so that a message touches none
    constraint dialogs_one_maker check ((user_id is null) <> (key_id is null)),
    constraint dialogs_count_not_negative check (message_count >= 0)
) with (fillfactor = 70);
create index dialogs_by_account on dialogs (account_id, id desc);
create index dialogs_by_user on dialogs (user_id) where user_id is not null;

-- What was said, written by the commit that ends the job it was said to. They go when their dialog does.
create table dialog_messages (
    dialog_id   uuid not null references dialogs on delete cascade,
    n           integer not null,                 -- 1, 2, … in the order of the jobs' ends
    role        text not null,                    -- user, assistant, tool
    content     jsonb not null,                   -- a text, or a list of parts that are texts; null where only tools are called
    more        jsonb,                            -- the message's other fields, such as tool_calls; null: none
    size_bytes  integer not null,                 -- length of the whole message as JSON
    job_id      uuid not null,                    -- the job that it was said to, or that answered
    created_at  timestamptz not null,             -- when that job ended
    constraint dialog_messages_pkey primary key (dialog_id, n)
);

alter table jobs
    add column dialog_id    uuid,                 -- the dialog it belongs to; null: none. The dialog may be gone
    -- What the dialog keeps of the request when the job succeeds: [{"role", "content", …}]. Null: nothing.
    add column dialog_said  jsonb;
