//! What Kiln set out to reach, and what is compared with others, on one page.

/// Which side of the goal is the good one.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// At least that.
    Least(f64),
    /// Less than that.
    Below(f64),
    /// Between the two.
    Within(f64, f64),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// In words.
    pub what: &'static str,
    /// The measure it is of.
    pub measure: &'static str,
    /// The variant of that measure.
    pub variant: &'static str,
    /// The figure of that variant.
    pub figure: &'static str,
    /// What is to be reached.
    pub side: Side,
    /// Unit, after the number.
    pub unit: &'static str,
}

const fn goal(
    what: &'static str,
    [measure, variant, figure]: [&'static str; 3],
    side: Side,
    unit: &'static str,
) -> Goal {
    Goal { what, measure, variant, figure, side, unit }
}

/// All goals.
pub const ALL: &[Goal] = &[
    goal(
        "`POST /v1/jobs`, 16 clients, one account",
        ["submit", "16 clients, 1 account", "per_second"],
        Side::Least(3000.0),
        "/s",
    ),
    goal("its 99th percentile", ["submit", "16 clients, 1 account", "p99_ms"], Side::Below(25.0), "ms"),
    goal(
        "`POST /v1/jobs`, 16 clients, 16 accounts",
        ["submit", "16 clients, 16 accounts", "per_second"],
        Side::Least(3000.0),
        "/s",
    ),
    goal("its 99th percentile", ["submit", "16 clients, 16 accounts", "p99_ms"], Side::Below(25.0), "ms"),
    goal(
        "`POST /v1/jobs`, 64 clients, 1000 accounts",
        ["submit", "64 clients, 1000 accounts", "per_second"],
        Side::Least(7000.0),
        "/s",
    ),
    goal(
        "queued jobs brought to their end by one process",
        ["drain", "100 accounts", "per_second"],
        Side::Least(15_000.0),
        "/s",
    ),
    goal(
        "from the request to the provider's call, median",
        ["start", "idle system", "p50_ms"],
        Side::Below(5.0),
        "ms",
    ),
    goal("its 99th percentile", ["start", "idle system", "p99_ms"], Side::Below(15.0), "ms"),
    goal(
        "what Kiln adds until the first word of a chat, 100 streams at once, median",
        ["stream", "100 streams at once, added", "first_p50_ms"],
        Side::Below(5.0),
        "ms",
    ),
    goal(
        "its 99th percentile",
        ["stream", "100 streams at once, added", "first_p99_ms"],
        Side::Below(20.0),
        "ms",
    ),
    goal(
        "claim of 1 beside 2 000 000 jobs, against none",
        ["claim", "ratio", "of_1"],
        Side::Within(0.8, 1.2),
        "×",
    ),
    goal(
        "claim of 100 beside 2 000 000 jobs, against none",
        ["claim", "ratio", "of_100"],
        Side::Within(0.8, 1.2),
        "×",
    ),
    goal(
        "memory of a worker that looks after 100 000 videos",
        ["parked", "100000 videos", "worker_peak_rss_mb"],
        Side::Below(300.0),
        "MB",
    ),
    goal(
        "a light account's wait beside a heavy one, against without, median, provider of 50 ms",
        ["fair", "provider of 50 ms, ratio", "p50"],
        Side::Below(2.0),
        "×",
    ),
    goal("the same, provider of 200 ms", ["fair", "provider of 200 ms, ratio", "p50"], Side::Below(2.0), "×"),
    goal(
        "memory of the API after ten minutes of 1000 jobs a second, last fifth against first",
        ["soak", "10 minutes at 1000/s, ratio", "api_rss"],
        Side::Below(1.2),
        "×",
    ),
    goal(
        "the same, the worker's",
        ["soak", "10 minutes at 1000/s, ratio", "worker_rss"],
        Side::Below(1.2),
        "×",
    ),
    goal(
        "the same, 99th percentile of `POST /v1/jobs`",
        ["soak", "10 minutes at 1000/s, ratio", "submit_p99"],
        Side::Below(1.5),
        "×",
    ),
    goal(
        "the same, size of `queue` with its indexes",
        ["soak", "10 minutes at 1000/s, ratio", "queue"],
        Side::Below(1.5),
        "×",
    ),
];

/// What is set side by side, as what it is called, measure and variant: first taken in, then worked off.
pub const SIDE_BY_SIDE: &[(&str, &str, &str)] = &[
    ("one row by `pgbench`, 16 clients", "limit", "one row, 16 clients"),
    (
        "hold, job and queue row by `pgbench`, 16 clients, 16 accounts",
        "limit",
        "hold, job and queue row, 16 clients, 16 accounts",
    ),
    ("**Kiln**, `POST /v1/jobs`, 16 clients, 16 accounts", "submit", "16 clients, 16 accounts"),
    ("riverqueue, insert, 16 clients", "river", "riverqueue, insert, 16 clients"),
    ("apalis-postgres, insert, 16 clients", "apalis", "apalis-postgres, insert, 16 clients"),
    ("graphile_worker, insert, 16 clients", "graphile", "graphile_worker, insert, 16 clients"),
    ("**Kiln**, drain", "drain", "100 accounts"),
    ("riverqueue, drain", "river", "riverqueue, drain"),
    ("apalis-postgres, drain", "apalis", "apalis-postgres, drain"),
    ("graphile_worker, drain", "graphile", "graphile_worker, drain"),
];

impl Goal {
    /// Whether a figure reaches it.
    pub fn is_met(&self, figure: f64) -> bool {
        match self.side {
            Side::Least(least) => figure >= least,
            Side::Below(most) => figure < most,
            Side::Within(least, most) => (least..=most).contains(&figure),
        }
    }

    /// The goal in words.
    pub fn words(&self) -> String {
        let unit = self.unit;
        match self.side {
            Side::Least(least) => format!("≥ {least} {unit}"),
            Side::Below(most) => format!("< {most} {unit}"),
            Side::Within(least, most) => format!("{least} – {most} {unit}"),
        }
    }
}
