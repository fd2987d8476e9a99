-- Jobs that are made after another one, and what people think of results. A request that is sent again is known by a row of
-- `idempotency_keys`, whose key begins with a sign that no Idempotency-Key has; see job/sending.rs.

alter table jobs
    -- What its request wished beside model and input, as far as it said so: {"routing","deadline_seconds","uncached"}. A job that
    -- is made after this one wishes the same.
    add column wishes     jsonb,
    add column retry_of   uuid,                     -- the job that ended without success and that this one makes again
    add column improves   uuid,                     -- the job whose result this one is to improve
    add column iteration  smallint,                 -- which improvement in a row that is: 1, 2, 3
    -- Rows from before have neither, so nobody need look.
    add constraint jobs_iteration_of_improvement check ((improves is null) = (iteration is null)) not valid,
    add constraint jobs_iteration_within_three   check (iteration between 1 and 3) not valid;

-- What was said of a result, the latest word on each.
create table feedback (
    job_id      uuid primary key references jobs,
    account_id  uuid not null references accounts,
    rating      text not null,                      -- like, dislike
    reason      text,                               -- in their own words
    given_at    timestamptz not null,
    constraint feedback_rating_known check (rating in ('like', 'dislike'))
);
create index feedback_by_time on feedback (given_at);
