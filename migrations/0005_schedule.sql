-- The clock's memory: for each scheduled task its last finished tick, and who is on the current one.

create table schedule (
    task         text primary key,                  -- name on the page of tasks
    last_tick    timestamptz not null,              -- newest tick that is done, or was skipped by policy
    lease_token  uuid,                              -- fences the scheduler that runs the current tick
    lease_until  timestamptz,
    failures     integer not null default 0,        -- ticks failed in a row
    last_error   text,
    finished_at  timestamptz                        -- when the last run ended well
);
