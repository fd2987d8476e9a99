//! Mails: once for each cause, sealed while they wait, tried again when it helps, and readable when they arrive.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    config,
    mail::{self, Letter, News, Sent},
    seal::Sealer,
};
use workers::mail::{Carrier, Ctx, TRIES};

use crate::support::{Mail, Postbox, TestApp, scalar};

const LINK: &str =
    "https://app.example.com/verify?token=a-token-that-opens-an-account-and-is-longer-than-a-line-of-mail";

fn verify() -> News {
    News::VerifyEmail { link: LINK.into() }
}

/// A mailer that speaks SMTP to the postbox.
fn by_smtp(app: &TestApp, postbox: &Postbox) -> Ctx {
    let carrier = Carrier::smtp(&postbox.url.clone().into(), "example.com").expect("a URL");
    Ctx { carrier, ..app.mailer.clone() }
}

async fn queue(app: &TestApp, reference: &str, news: &News) -> bool {
    let letter = Letter { reference, account: None, recipient: "bob@example.com", news };
    mail::queue(&app.db, &app.sealer, &letter, app.now()).await.expect("queue a mail")
}

#[tokio::test]
async fn a_mail_arrives_once_with_its_words_and_nothing_of_it_stays() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let postbox = Postbox::start(&app.process).await;
    let news = News::Invitation {
        account_name: "Müller & Söhne".into(),
        role: "developer".into(),
        link: LINK.into(),
    };
    let letter =
        Letter { reference: "inv_1", account: Some(alice.id), recipient: "bob@example.com", news: &news };
    // The mail comes with the commit and only with it.
    let mut tx = app.db.begin().await.expect("begin");
    assert!(mail::queue(&mut *tx, &app.sealer, &letter, app.now()).await.expect("queue"));
    tx.rollback().await.expect("roll back");
    let mailer = by_smtp(&app, &postbox);
    assert_eq!(app.send_mails(&mailer).await, 0);
    let mut tx = app.db.begin().await.expect("begin");
    assert!(mail::queue(&mut *tx, &app.sealer, &letter, app.now()).await.expect("queue"));
    tx.commit().await.expect("commit");

    let row: String = scalar(&app.db, "select encode(sealed, 'escape') || mails::text from mails").await;
    assert!(!row.contains("token") && !row.contains("Müller"), "{row}");
    assert_eq!(app.send_mails(&mailer).await, 1);
    assert_eq!(app.send_mails(&mailer).await, 0, "sent once");
    let posted = postbox.posted();
    assert_eq!(posted.len(), 1);
    assert_eq!(
        (posted[0].from.as_str(), posted[0].recipient.as_str()),
        ("no-reply@localhost", "bob@example.com")
    );
    let read = Mail::read(posted[0].raw.as_bytes());
    assert_eq!(read.subject, "You are invited to join \"Müller & Söhne\"");
    assert_eq!(read.recipient, "bob@example.com");
    assert_eq!(read.link(), LINK);
    assert!(
        read.text.contains("as developer") && read.text.trim_end().ends_with("\n-- \nKiln"),
        "{:?}",
        read.text
    );
    assert!(
        posted[0].raw.contains(&app.now().format("\r\nDate: %a, %d %b %Y %H:%M:%S +0000\r\n").to_string())
    );
    assert!(posted[0].raw.is_ascii(), "no server has to know more");
    let left: bool =
        scalar(&app.db, "select status = 'sent' and sealed is null and settled_at is not null from mails")
            .await;
    assert!(left);
    app.finish().await;
}

#[tokio::test]
async fn the_same_news_of_the_same_cause_is_told_once() {
    let app = TestApp::new().await;
    assert!(queue(&app, "one", &verify()).await);
    assert!(!queue(&app, "one", &verify()).await);
    assert_eq!(app.mails().await.len(), 1);
    assert!(!queue(&app, "one", &verify()).await, "told is told");
    assert!(queue(&app, "two", &verify()).await);
    assert!(queue(&app, "one", &News::PasswordChanged).await, "other news of it");
    assert_eq!(app.mails().await.len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn a_server_that_cannot_now_is_asked_later_under_the_same_id_until_the_tries_are_spent() {
    let app = TestApp::new().await;
    let postbox = Postbox::start(&app.process).await;
    let mailer = by_smtp(&app, &postbox);
    queue(&app, "one", &verify()).await;
    for _ in 0..TRIES {
        postbox.answer_mail("451 4.3.0 too busy for <bob@example.com>");
    }
    let mut waits = Vec::new();
    loop {
        assert_eq!(app.send_mails(&mailer).await, 1);
        let next: Option<DateTime<Utc>> =
            scalar(&app.db, "select (select run_at from mails where status = 'pending')").await;
        let Some(next) = next else { break };
        waits.push((next - app.now()).num_minutes());
        app.clock.advance_to(next);
    }
    assert_eq!(waits, [1, 5, 30, 120, 480]);
    let posted = postbox.posted();
    assert_eq!(posted.len(), TRIES);
    let id = Mail::read(posted[0].raw.as_bytes()).id;
    assert!(id.starts_with("mail_") && id.ends_with("@localhost"), "{id}");
    assert!(posted.iter().all(|posted| Mail::read(posted.raw.as_bytes()).id == id && !posted.taken));
    let dead: String =
        scalar(&app.db, "select last_error from mails where status = 'dead' and sealed is null").await;
    assert!(dead.contains("451") && dead.contains("too busy") && !dead.contains("bob"), "{dead}");

    queue(&app, "two", &verify()).await;
    postbox.answer_mail("421 closing");
    app.send_mails(&mailer).await;
    app.clock.advance(TimeDelta::minutes(1));
    app.send_mails(&mailer).await;
    let posted = &postbox.posted()[TRIES..];
    assert_eq!(posted.iter().map(|posted| posted.taken).collect::<Vec<_>>(), [false, true]);
    assert_eq!(Mail::read(posted[0].raw.as_bytes()), Mail::read(posted[1].raw.as_bytes()));
    app.finish().await;
}

#[tokio::test]
async fn an_answer_decides_what_becomes_of_a_mail() {
    let app = TestApp::new().await;
    let postbox = Postbox::start(&app.process).await;
    let mailer = by_smtp(&app, &postbox);
    for (answer, expected) in [
        ("550 5.1.1 <bob@example.com>: no such user", "dead"),
        ("450 4.2.0 try again", "pending"),
        ("530 5.7.0 log in first", "pending"),
        ("250 ok", "sent"),
    ] {
        postbox.answer_recipient(answer);
        queue(&app, answer, &verify()).await;
        app.send_mails(&mailer).await;
        let status: String =
            scalar(&app.db, &format!("select status from mails where reference = '{answer}'")).await;
        assert_eq!(status, expected, "{answer}");
    }
    let kept: bool =
        scalar(&app.db, "select bool_and((status = 'pending') = (sealed is not null)) from mails").await;
    assert!(kept, "what is settled says nothing any more");
    let nowhere = Carrier::smtp(&"smtp://127.0.0.1:1".to_owned().into(), "example.com").expect("a URL");
    queue(&app, "nowhere", &verify()).await;
    app.send_mails(&Ctx { carrier: nowhere, ..app.mailer.clone() }).await;
    let status: String = scalar(&app.db, "select status from mails where reference = 'nowhere'").await;
    assert_eq!(status, "pending");
    app.finish().await;
}

#[tokio::test]
async fn two_deliverers_send_every_mail_once() {
    let app = TestApp::new().await;
    let postbox = Postbox::start(&app.process).await;
    let mailer = by_smtp(&app, &postbox);
    for n in 0..30 {
        queue(&app, &n.to_string(), &verify()).await;
    }
    let (one, other) = tokio::join!(app.send_mails(&mailer), app.send_mails(&mailer));
    assert_eq!(one + other, 30);
    let mut ids: Vec<_> =
        postbox.posted().iter().map(|posted| Mail::read(posted.raw.as_bytes()).id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), postbox.posted().len()), (30, 30));
    app.finish().await;
}

#[tokio::test]
async fn a_deliverer_that_dies_is_followed_by_another_and_its_late_word_does_not_count() {
    let app = TestApp::new().await;
    queue(&app, "one", &verify()).await;
    let lease = Duration::from_secs(60);
    let lost = mail::claim(&app.db, 10, lease, app.now()).await.expect("claim").pop().expect("a mail");
    assert_eq!(app.mails().await.len(), 0, "leased to someone");
    app.clock.advance(TimeDelta::minutes(2));
    assert_eq!(app.mails().await.len(), 1);
    let late = Sent::Dead("late".into());
    assert!(!mail::record(&app.db, &lost, &late, app.now()).await.expect("record"));
    let status: String = scalar(&app.db, "select status from mails").await;
    assert_eq!(status, "sent");
    app.finish().await;
}

#[tokio::test]
async fn a_mail_sealed_under_another_key_waits_for_that_key() {
    let app = TestApp::new().await;
    let before = Sealer::new(&config::Sealing::from_secret(&"another secret".to_owned().into()));
    let news = verify();
    let letter = Letter { reference: "one", account: None, recipient: "bob@example.com", news: &news };
    mail::queue(&app.db, &before, &letter, app.now()).await.expect("queue");
    assert_eq!(app.mails().await.len(), 0);
    let error: String = scalar(&app.db, "select last_error from mails where status = 'pending'").await;
    assert!(error.contains("KILN_ENCRYPTION_KEY_PREVIOUS"), "{error}");
    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(app.send_mails(&Ctx { sealer: before, ..app.mailer.clone() }).await, 1);
    let status: String = scalar(&app.db, "select status from mails").await;
    assert_eq!(status, "sent");
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "changes rows behind the product's back")]
async fn a_mail_whose_content_was_moved_or_whose_recipient_is_gone_is_not_sent() {
    let app = TestApp::new().await;
    for reference in ["moved", "erased", "nonsense"] {
        queue(&app, reference, &verify()).await;
    }
    for sql in [
        "update mails set sealed = (select sealed from mails where reference = 'erased') where reference = 'moved'",
        "update mails set recipient = null where reference = 'erased'",
        "update mails set recipient = E'bob@example.com\\r\\nBcc: all@example.com' where reference = 'nonsense'",
    ] {
        sqlx::query(sql).execute(&app.db).await.expect(sql);
    }
    assert_eq!(app.mails().await.len(), 0);
    let word = async |reference: &str| -> String {
        scalar(
            &app.db,
            &format!("select status || ': ' || last_error from mails where reference = '{reference}'"),
        )
        .await
    };
    assert_eq!(word("erased").await, "dead: its recipient was erased");
    assert_eq!(word("nonsense").await, "dead: its recipient is no address");
    assert!(word("moved").await.contains("sealed for something else"));
    app.finish().await;
}

#[tokio::test]
async fn a_folder_gets_each_mail_as_a_file_of_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let app = TestApp::new().await;
    queue(&app, "one", &verify()).await;
    queue(&app, "two", &News::PasswordChanged).await;
    app.send_mails(&app.mailer).await;
    let files: Vec<_> =
        std::fs::read_dir(app.mail_dir.path()).expect("a folder").map(|file| file.expect("a file")).collect();
    assert_eq!(files.len(), 2);
    for file in &files {
        assert!(file.file_name().to_string_lossy().ends_with(".eml"), "{file:?}");
        assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    }
    let mails = app.mails().await;
    let subjects: Vec<_> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    assert_eq!(subjects, ["Please confirm your e-mail address", "Your password was changed"]);
    assert_eq!(mails[0].link(), LINK);
    assert!(app.mails().await.is_empty(), "given back once");
    app.finish().await;
}
