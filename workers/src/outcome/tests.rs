//! What a failure leads to, case by case.

use super::*;

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn check(stage: &Stage, class: ErrorClass, expected: &str) {
    let outcome = classify(stage, &ProviderError::new(class, "said so"), Decimal::ZERO, 0, at());
    let word = match &outcome {
        Outcome::Done(_) => "done".to_owned(),
        Outcome::Wait(pause) => format!("wait {}", resumed(&pause.resume)),
        Outcome::Turn(way, error) => format!("turn {way:?} {}", error.code),
        Outcome::Retry(pause, error) => format!("retry {} {}", resumed(&pause.resume), error.code),
        Outcome::Fail(error) | Outcome::Stop(error) => format!("fail {}", error.code),
    };
    assert_eq!(word, expected, "{stage:?} {class:?}");
}

fn resumed(resume: &Resume) -> &'static str {
    match resume {
        Resume::Anew => "anew",
        Resume::Unchanged => "unchanged",
        Resume::At(Checkpoint::Judging { .. }) => "judge",
        Resume::At(Checkpoint::Submitting { .. }) => "lookup",
        Resume::At(Checkpoint::Pending { .. }) => "resume",
        Resume::At(Checkpoint::Stored { .. }) => "stored",
    }
}

#[test]
fn a_submit_that_surely_failed_is_tried_again_and_a_verdict_is_final() {
    let submit = Stage::Submit(AfterAmbiguity::Lookup);
    for class in [ErrorClass::Auth, ErrorClass::Quota, ErrorClass::RateLimited, ErrorClass::Unavailable] {
        check(&submit, class, "retry anew provider_unavailable");
    }
    check(&submit, ErrorClass::Refused, "fail content_refused");
    check(&submit, ErrorClass::BadInput, "fail provider_rejected_input");
    check(&submit, ErrorClass::Failed, "fail provider_failed");
    check(&submit, ErrorClass::Broken, "retry anew provider_result_unusable");
}

#[test]
fn an_unknown_submit_follows_the_vendors_policy() {
    check(&Stage::Submit(AfterAmbiguity::Lookup), ErrorClass::Ambiguous, "wait lookup");
    check(
        &Stage::Submit(AfterAmbiguity::SubmitAgain),
        ErrorClass::Ambiguous,
        "retry anew provider_unavailable",
    );
    check(&Stage::Submit(AfterAmbiguity::GiveUp), ErrorClass::Ambiguous, "fail outcome_unknown");
}

#[test]
fn what_is_dear_is_not_made_twice() {
    use AfterAmbiguity::{GiveUp, Lookup, SubmitAgain};
    for (policy, cost_usd, expected) in [
        (SubmitAgain, Decimal::new(25, 2), SubmitAgain),
        (SubmitAgain, Decimal::new(2501, 4), GiveUp),
        (Lookup, Decimal::from(3), Lookup),
        (GiveUp, Decimal::ZERO, GiveUp),
    ] {
        assert_eq!(after_ambiguity(policy, cost_usd), expected, "{policy:?} {cost_usd}");
    }
    let forbidden = ResultError::Forbidden("must be an https URL".into());
    let task = Some(("t1", Misses::default()));
    assert!(matches!(classify_result(&forbidden, task, Decimal::ZERO, 0, at()), Outcome::Fail(_)));
    let broken = ResultError::Unusable("it has one second".into());
    for (cost_usd, tries, is_final) in
        [(Decimal::new(25, 2), 3, false), (Decimal::ONE, 0, false), (Decimal::ONE, 1, true)]
    {
        let outcome = classify_result(&broken, None, cost_usd, tries, at());
        assert_eq!(matches!(outcome, Outcome::Fail(_)), is_final, "{cost_usd}: {outcome:?}");
    }
}

#[test]
fn a_poll_that_told_nothing_never_ends_a_job() {
    let resume = Stage::Resume { provider_ref: "t1".into(), misses: Misses { blind: 40, undelivered: 0 } };
    for class in [
        ErrorClass::Auth,
        ErrorClass::Quota,
        ErrorClass::RateLimited,
        ErrorClass::Unavailable,
        ErrorClass::Ambiguous,
        ErrorClass::BadInput,
    ] {
        check(&resume, class, "wait resume");
    }
    check(&resume, ErrorClass::Refused, "fail content_refused");
    check(&resume, ErrorClass::Failed, "fail provider_failed");
    check(&Stage::Lookup { unseen: 0 }, ErrorClass::Unavailable, "wait lookup");
}

#[test]
fn a_result_is_taken_for_lost_by_failed_downloads_and_not_by_failed_looks() {
    let download = ResultError::Download("reset".into());
    let misses = |blind, undelivered| Some(("t1", Misses { blind, undelivered }));
    let again = classify_result(&download, misses(40, 0), Decimal::ZERO, 0, at());
    let Outcome::Wait(Pause { resume: Resume::At(Checkpoint::Pending { misses: then, .. }), .. }) = again
    else {
        panic!("not looked at again: {again:?}")
    };
    assert_eq!(then, Misses { blind: 0, undelivered: 1 });
    assert!(matches!(
        classify_result(&download, misses(0, DOWNLOADS), Decimal::ZERO, 0, at()),
        Outcome::Retry(..)
    ));
    let storage = ResultError::Storage(anyhow::anyhow!("away"));
    assert!(matches!(classify_result(&storage, misses(0, 40), Decimal::ZERO, 0, at()), Outcome::Wait(_)));
}

#[test]
fn what_cannot_be_judged_is_tried_again_or_waits_longer_and_longer() {
    let ask = |policy, misses, advice: Option<u64>| {
        unjudged(policy, misses, advice.map(Duration::from_secs), 0, at())
    };
    let Outcome::Retry(pause, error) = ask(WhenUnavailable::Fail, 0, None) else { panic!("not retried") };
    assert_eq!((pause.resume, error.code), (Resume::Anew, "moderation_unavailable"));
    for (misses, advice, low, high) in [
        (0, None, 1, 2),
        (3, None, 12, 20),
        (99, None, 225, 375),
        (3, Some(7), 7, 7),
        (0, Some(9999), 600, 600),
    ] {
        let Outcome::Wait(pause) = ask(WhenUnavailable::Queue, misses, advice) else { panic!("no wait") };
        let waits = (pause.until - at()).num_seconds();
        assert!((low..=high).contains(&waits), "{misses} {advice:?}: {waits}");
        assert_eq!(pause.resume, Resume::At(Checkpoint::Judging { misses: misses + 1 }));
    }
    let Outcome::Wait(pause) = ask(WhenUnavailable::Queue, 0, Some(0)) else { panic!("no wait") };
    assert!(pause.until > at());
}

#[test]
fn never_seen_is_believed_the_second_time() {
    assert!(matches!(unseen(0, 0, at()), Outcome::Wait(_)));
    assert!(matches!(unseen(1, 0, at()), Outcome::Retry(Pause { resume: Resume::Anew, .. }, _)));
}

#[test]
fn backoff_doubles_and_ends() {
    for (tries, low, high) in
        [(0, 1.5, 2.5), (1, 3.0, 5.0), (3, 12.0, 20.0), (12, 225.0, 375.0), (999, 225.0, 375.0)]
    {
        let wait = backoff(tries).as_secs_f64();
        assert!((low..=high).contains(&wait), "{tries}: {wait}");
    }
}

#[test]
fn a_vendors_advice_is_followed_up_to_a_limit() {
    let error =
        |secs| ProviderError::new(ErrorClass::RateLimited, "").retry_after(Some(Duration::from_secs(secs)));
    for (advice, expected) in [(7, 7), (100_000, 600)] {
        let stage = Stage::Submit(AfterAmbiguity::SubmitAgain);
        let Outcome::Retry(pause, _) = classify(&stage, &error(advice), Decimal::ZERO, 0, at()) else {
            panic!("not retried")
        };
        assert_eq!((pause.until - at()).num_seconds(), expected);
    }
}
