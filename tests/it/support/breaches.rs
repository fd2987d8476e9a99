//! The invariants of the house that the database can be asked about, each as a query for its breaches.
//!
//! They hold whenever nothing is under way. Asked after every integration test, and after the faults of `scripts/chaos`.
//! Deliberately absent: what only the vendors, the receivers or the storage know.

/// Name of the invariant, and a query that finds what breaks it, as text.
pub const BREACHES: [(&str, &str); 17] = [
    ("no job is left open", "select id::text from jobs where status = 'open'"),
    (
        "a job is charged exactly once if it succeeded, never otherwise",
        "select j.id::text from jobs j left join ledger l on l.kind = 'charge' and l.reference = j.id::text
         where (j.status <> 'succeeded' and l.id is not null)
            or coalesce(l.amount_tokens, 0) <> coalesce(j.charged_tokens, 0)",
    ),
    (
        "every hold is closed exactly once",
        "select j.id::text from jobs j where j.status <> 'open' and j.held_tokens <>
             (select coalesce(sum(amount_tokens), 0) from ledger where reference = j.id::text and kind in ('charge', 'release'))",
    ),
    (
        "every job has one hold of its price",
        "select j.id::text from jobs j where j.held_tokens <>
             (select coalesce(sum(amount_tokens), 0) from ledger where reference = j.id::text and kind = 'hold')",
    ),
    (
        "an unfinished job has exactly one queue row, a finished one none",
        "select coalesce(j.id, q.job_id)::text from jobs j full join queue q on q.job_id = j.id
         where (j.status = 'open') is distinct from (q.job_id is not null)",
    ),
    (
        "attempts are counted without a gap",
        "select j.id::text from jobs j where j.status <> 'open'
           and (j.attempts <> (select count(*) from attempts a where a.job_id = j.id)
             or j.attempts <> (select coalesce(max(attempt), 0) from attempts a where a.job_id = j.id))",
    ),
    (
        "no attempt of a final job is left open",
        "select a.job_id::text from attempts a join jobs j on j.id = a.job_id where j.status <> 'open' and a.outcome is null",
    ),
    (
        "every attempt that ended says what it cost",
        "select job_id::text from attempts where (outcome is not null) <> (cost_usd is not null) or cost_usd < 0",
    ),
    (
        "what a job holds of expiring grants is part of its hold",
        "select id::text from jobs where lots_total(held_lots) > held_tokens",
    ),
    // Notices are kept for 30 days, and forgotten with other old rows.
    (
        "every final job produced exactly one notice for the webhook that it asked for",
        "select j.id::text from jobs j
         where j.status <> 'open'
           and j.finished_at > (select coalesce(max(last_tick), '-infinity') - interval '29 days' from schedule
                                where task = 'forget-old-rows')
           and (j.webhook_url is not null and (j.webhook_events = '{}' or 'job.' || j.status = any (j.webhook_events)))::int <>
               (select count(*) from notices n where n.job_id = j.id and n.channel = 'webhook')",
    ),
    (
        "every final job produced exactly one notice for each endpoint that wanted it",
        "select j.id::text from jobs j join webhook_endpoints e on e.account_id = j.account_id
         where j.finished_at > e.changed_at and e.disabled_at is null
           and j.finished_at > (select coalesce(max(last_tick), '-infinity') - interval '29 days' from schedule
                                where task = 'forget-old-rows')
           and (e.events = '{}' or 'job.' || j.status = any (e.events))::int <>
               (select count(*) from notices n where n.job_id = j.id and n.endpoint_id = e.id)",
    ),
    (
        "a notice tells its own account of the end as it was, or is a test",
        "select n.id::text from notices n left join jobs j on j.id = n.job_id
         where (n.account_id, n.event) is distinct from (j.account_id, 'job.' || j.status)
           and (n.job_id, n.event) is distinct from (n.id, 'webhook.test')
            or n.channel <> coalesce(n.endpoint_id::text, 'webhook')",
    ),
    (
        "an account's row says how many of its endpoints are told",
        "select a.id::text from accounts a
         where a.enabled_endpoints <>
             (select count(*) from webhook_endpoints e where e.account_id = a.id and e.disabled_at is null)",
    ),
    (
        "files that are kept belong to jobs that succeeded",
        "select f.job_id::text from files f join jobs j on j.id = f.job_id
         where j.status <> 'succeeded' and f.expires_at > f.created_at",
    ),
    (
        "the messages of a dialog are numbered from 1 to their count",
        "select d.id::text from dialogs d where d.message_count <> (select count(*) from dialog_messages m where m.dialog_id = d.id)
             or d.message_count <> (select coalesce(max(n), 0) from dialog_messages m where m.dialog_id = d.id)",
    ),
    (
        "a dialog keeps what a job said once, with its answer, and only if it succeeded",
        "select m.job_id::text from dialog_messages m left join jobs j on j.id = m.job_id
         group by m.dialog_id, m.job_id, j.id
         having j.dialog_id is distinct from m.dialog_id or j.status <> 'succeeded'
             or count(*) <> jsonb_array_length(j.dialog_said) + 1 or max(m.n) - min(m.n) + 1 <> count(*)",
    ),
    (
        "a queue row without a worker holds no lease",
        "select job_id::text from queue where lease_token is not null",
    ),
];
