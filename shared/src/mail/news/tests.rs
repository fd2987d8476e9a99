//! The words of mails: each kind has its own, and names that people chose write no letters in our name.

use proptest::{prelude::*, test_runner::Config};

use super::*;

#[test]
fn whatever_an_account_is_called_its_mails_have_one_subject_and_no_links_of_its_own() {
    let part = prop_oneof![
        any::<String>(),
        "(https?|HTTP|ftp)?:?[/\\\\]{0,2}(www\\.)?[a-z]{1,5}[.\u{3002}][a-z]{2}/?[a-z]{0,3}"
            .prop_map(String::from),
        "[ \r\n\t\u{0}\u{7}\u{85}\u{2028}\u{202e}\u{200b}\u{feff}]{1,3}".prop_map(String::from),
    ];
    let name = proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat());
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    proptest!(config, |(name in name)| {
        let link = "https://kiln.example/accept?token=x".to_owned();
        let news = News::Invitation { account_name: name.clone(), role: "developer".into(), link: link.clone() };
        let Content { subject, text, .. } = news.render();
        prop_assert!(!subject.contains(char::is_control) && subject.chars().count() < 100, "{subject:?}");
        prop_assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || is_invisible(c))), "{text:?}");
        let others = text.replace(&link, "").to_lowercase();
        prop_assert!(!others.contains("://") && !others.contains("www."), "{others}");
        prop_assert_eq!(others.lines().count(), 10, "{}", others);
    });
}

fn every_kind() -> Vec<News> {
    let (account_name, plan) = ("Example Ltd".to_owned(), "Pro".to_owned());
    let link = "https://api.example.com/verify?token=abc".to_owned();
    let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    vec![
        News::VerifyEmail { link: link.clone() },
        News::AlreadyRegistered { link: link.clone() },
        News::ResetPassword { link: link.clone() },
        News::PasswordChanged,
        News::Invitation { account_name: account_name.clone(), role: "developer".into(), link: link.clone() },
        News::LowBalance { account_name: account_name.clone(), available: 4_500, threshold: 1_000_000 },
        News::GrantExpiring { account_name: account_name.clone(), tokens: 70_000, expires_at: at, days: 1 },
        News::SubscriptionEnding {
            account_name: account_name.clone(),
            plan: plan.clone(),
            ends_at: at,
            days: 3,
        },
        News::SubscriptionEnded { account_name: account_name.clone(), plan },
        News::ExportReady { account_name: account_name.clone(), link, expires_at: at },
        News::WebhookDisabled {
            account_name: account_name.clone(),
            endpoint: EndpointId::new(),
            failing_since: Some(at),
        },
        News::AccountErased { account_name },
        News::RefreshTokenReused,
        News::LedgerDrift { accounts: 2, first: vec![AccountId::new(), AccountId::new()] },
        News::ProviderKey { provider: "kling".into(), key: "pkey_1".into(), what: "refused".into() },
        News::UsageRejected { provider: "openai".into(), model: "gpt-4o".into(), why: "no tokens".into() },
    ]
}

#[test]
fn every_kind_has_words_a_name_of_its_own_and_its_link() {
    let mut kinds = std::collections::BTreeSet::new();
    for news in every_kind() {
        assert!(kinds.insert(news.kind()), "{news:?} twice");
        let Content { subject, text, link } = news.render();
        assert!((10..100).contains(&subject.len()) && !subject.contains('\n'), "{subject}");
        assert!(text.ends_with("\n-- \nKiln") && !text.contains("  \n"), "{text}");
        assert_eq!(link.is_some(), text.contains("https://"), "{news:?}");
        assert!(link.is_none_or(|link| text.lines().any(|line| line == link)), "{text}");
        assert!(!format!("{news:?}").contains("token="), "links are not shown");
    }
}

#[test]
fn numbers_and_dates_read_well() {
    let news = every_kind();
    let text = |kind: &str| news.iter().find(|news| news.kind() == kind).unwrap().render();
    assert!(text("low_balance").text.contains("4,500 tokens left, fewer than the 1,000,000"));
    assert_eq!(text("grant_expiring").subject, "70,000 tokens expire in 1 day");
    assert!(text("webhook_disabled").text.contains("has arrived since 15 January 2027 at 08:00 UTC."));
    assert!(text("subscription_ending").text.contains("in 3 days, on 15 January 2027 at 08:00 UTC"));
    assert_eq!(grouped(-1_234_567), "-1,234,567");
    assert_eq!((grouped(0), grouped(999), grouped(1000)), ("0".into(), "999".into(), "1,000".into()));
}

#[test]
fn a_name_cannot_write_a_letter_of_its_own() {
    let account_name = format!("You won!\r\nBcc: all@example.com\n\n\u{202E}{}", "x".repeat(500));
    let news = News::Invitation { account_name, role: "viewer".into(), link: "https://a/b".into() };
    let Content { subject, text, .. } = news.render();
    assert!(!subject.contains(['\r', '\n', '\u{202E}']), "{subject:?}");
    assert!(subject.chars().count() < 100, "{subject}");
    assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
}

#[test]
fn a_name_leads_nowhere() {
    let check = |name: &str, expected: &str| assert_eq!(without_links(name), expected, "{name}");
    check("Win at https://evil.example/x now", "Win at now");
    check("Win at HTTP://evil.example", "Win at");
    check("see (www.evil.example) or evil.example/prize", "see or");
    check("see WWW.evil.example,evil.example?a=/", "see");
    check("ｗｗｗ．evil．example //evil", "(no name)");
    check("a\u{200B}www.evil.example\nmailto:a@evil.example", "a");
    check("AC/DC 24/7 Booking.com & Co. Ltd.", "AC/DC 24/7 Booking.com & Co. Ltd.");
}
