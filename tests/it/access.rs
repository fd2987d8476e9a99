//! Who may do what: every role asks for every route, and what comes back is what the table of permissions says.
//!
//! The whole matrix is also kept as a file, so that a change of anyone's rights is seen in review:
//! `KILN_WRITE_SNAPSHOTS=1` writes it anew.

#![expect(clippy::disallowed_methods, reason = "one variable says whether to write the snapshot")]

use std::{collections::BTreeMap, fmt::Write, path::Path};

use api::{access::Access, http::Listed};
use futures::{StreamExt, stream};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::json;
use shared::{
    account::{KeyRole, Opened, OperatorRole, Permissions, Role},
    id::{SessionId, UserId},
};

use crate::support::{Account, TestApp, execute, scalar};

/// Requests under way at once.
const AT_ONCE: usize = 8;

/// Whoever asks.
#[derive(Debug, Clone, Copy)]
enum Speaker {
    /// A member who logged in.
    Member(Role),
    /// A key with no scopes of its own.
    Key,
    /// An operator who logged in, and is in an account as one who looks.
    Operator(OperatorRole),
}

impl Speaker {
    fn all() -> impl Iterator<Item = Self> {
        let members = Role::ALL.into_iter().map(Self::Member);
        members.chain([Self::Key]).chain(OperatorRole::ALL.into_iter().map(Self::Operator))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Member(role) => role.word(),
            Self::Key => "key",
            Self::Operator(role) => role.word(),
        }
    }

    fn permissions(self) -> Permissions {
        match self {
            Self::Member(role) => role.permissions(),
            Self::Key => Role::Developer.permissions(),
            Self::Operator(role) => role.permissions().or(Role::Viewer.permissions()),
        }
    }

    fn may(self, access: Access) -> bool {
        match access {
            Access::Public | Access::Known => true,
            Access::Person => !matches!(self, Self::Key),
            Access::Needs(permission) => self.permissions().has(permission),
        }
    }

    /// With an account of their own, so that whatever they break is theirs alone.
    async fn enter(self, app: &TestApp) -> Account {
        let account = app.account(0).await;
        let (role, operator) = match self {
            Self::Key => return account,
            Self::Member(role) => (role.word(), None),
            Self::Operator(operator) => (Role::Viewer.word(), Some(operator.word())),
        };
        let (user, session) = (UserId::new(), SessionId::new());
        let operator = operator.map_or("null".to_owned(), |word| format!("'{word}'"));
        let sql = format!(
            "with person as (
                 insert into users (id, email, name, operator_role, email_verified_at, created_at)
                 values ('{user}', '{user}@example.com', 'Test', {operator}, now(), now()) returning id
             ), member as (
                 insert into members (account_id, user_id, role, created_at)
                 select '{account}', id, '{role}', now() from person
             )
             insert into sessions (id, user_id, account_id, created_at, expires_at)
             select '{session}', id, '{account}', now(), now() + interval '10 days' from person",
            user = user.0,
            session = session.0,
            account = account.id.0,
        );
        execute(&app.db, &sql).await.expect("a person");
        let opened = Opened { session, user, account: account.id, refresh_token: String::new().into() };
        let token = app.door.people.access_tokens.issue(&opened, app.now()).expect("a token");
        Account { key: token.expose_secret().to_owned(), ..account }
    }
}

/// The status a speaker gets for a request that names nothing that is there.
async fn ask(app: &TestApp, speaker: Option<Speaker>, route: &Listed) -> u16 {
    let path: Vec<_> =
        route.path.split('/').map(|part| if part.starts_with('{') { "placeholder" } else { part }).collect();
    let mut request = app.http.request(route.method.clone(), format!("{}{}", app.base, path.join("/")));
    if route.method != Method::GET {
        request = request.json(&json!({}));
    }
    if let Some(speaker) = speaker {
        request = request.bearer_auth(speaker.enter(app).await.key);
    }
    request.send().await.expect("the API answers").status().as_u16()
}

#[tokio::test]
async fn every_role_is_let_in_where_the_table_says_and_nowhere_else() {
    let app = TestApp::new().await;
    let routes = api::http::listed();
    let pairs = routes.iter().flat_map(|route| Speaker::all().map(move |speaker| (route, speaker)));
    let answers: Vec<_> = stream::iter(pairs)
        .map(|(route, speaker)| {
            let app = &app;
            async move { (route, speaker, ask(app, Some(speaker), route).await) }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut wrong = Vec::new();
    for (route, speaker, status) in answers {
        let right = match (route.access, speaker.may(route.access)) {
            (Access::Public, _) => status != 403 && status < 500,
            (_, true) => ![401, 403].contains(&status) && status < 500,
            (_, false) => status == 403,
        };
        if !right {
            wrong.push(format!("{} {} as {}: {status}", route.method, route.path, speaker.word()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    app.finish().await;
}

#[tokio::test]
async fn nobody_is_let_in_without_saying_who_they_are() {
    let app = TestApp::new().await;
    for route in api::http::listed() {
        let status = ask(&app, None, &route).await;
        if route.access == Access::Public {
            assert!(
                ![401, 403].contains(&status) && status < 500,
                "{} {}: {status}",
                route.method,
                route.path
            );
        } else {
            assert_eq!(status, 401, "{} {}", route.method, route.path);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn only_who_says_who_is_an_operator_acts_on_operators() {
    let app = TestApp::new().await;
    let (root, mia) = (app.register("root@example.com").await, app.register("mia@example.com").await);
    let customer = app.account(0).await;
    for (email, role) in [("root@example.com", "super_admin"), ("mia@example.com", "moderator")] {
        let set = format!("update users set operator_role = '{role}' where email = '{email}'");
        assert_eq!(execute(&app.db, &set).await.expect("set"), 1);
    }
    let put = async |who: &Account, path: String, body| who.send(Method::PUT, &path, &[], Some(&body)).await;
    let suspend = async |who: &Account, whom: &Account| {
        let path = format!("/v1/admin/accounts/{}/status", whom.id);
        let answer = put(who, path.clone(), json!({ "status": "suspended" })).await.status.as_u16();
        if answer == 200 {
            assert_eq!(put(who, path, json!({ "status": "active" })).await.status, 200);
        }
        answer
    };
    assert_eq!((suspend(&mia, &customer).await, suspend(&mia, &root).await), (200, 403));
    let revoke = async |who: &Account, key: &Account| {
        let sql = format!("select id::text from api_keys where prefix = '{}'", &key.key[..13]);
        let id = scalar::<String>(&app.db, &sql).await.replace('-', "");
        let path = format!("/v1/admin/api-keys/key_{id}");
        who.send(Method::DELETE, &path, &[], None).await.status.as_u16()
    };
    for key in [
        app.key(customer.id, KeyRole::Operator).await,
        app.scoped_key(customer.id, &["jobs:read", "admin.audit:read"]).await,
    ] {
        assert_eq!(suspend(&mia, &customer).await, 403, "an account that operators' keys belong to");
        assert_eq!((revoke(&mia, &key).await, key.get("/v1/models").await.status.as_u16()), (403, 200));
        assert_eq!((revoke(&root, &key).await, key.get("/v1/models").await.status.as_u16()), (200, 401));
    }
    assert_eq!((suspend(&mia, &customer).await, revoke(&mia, &customer).await), (200, 200));

    // Nobody who says who is an operator is left without another.
    let role = async |whom: &Account, role| {
        let path = format!("/v1/admin/users/{}/operator-role", whom.user().await);
        put(&root, path, json!({ "role": role })).await
    };
    for lesser in [None, Some("finance")] {
        assert_eq!(role(&root, lesser).await.error(), (409, "last_super_admin", "none"));
    }
    assert_eq!(role(&root, Some("super_admin")).await.status, 200);
    assert_eq!(role(&mia, Some("super_admin")).await.status, 200);
    assert_eq!(suspend(&mia, &root).await, 200);
    app.finish().await;
}

#[test]
fn a_change_of_rights_is_seen_in_review() {
    let mut lines = BTreeMap::new();
    for route in api::http::listed() {
        let who = match route.access {
            Access::Public => "anyone".to_owned(),
            access => {
                let let_in = Speaker::all().filter(|speaker| speaker.may(access));
                let_in.map(Speaker::word).collect::<Vec<_>>().join(" ")
            }
        };
        let method = route.method.to_string();
        lines.insert((route.path, method.clone()), format!("{method:<6} {:<42} {who}", route.path));
    }
    let mut now = String::new();
    for line in lines.values() {
        writeln!(now, "{line}").expect("text");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/snapshots/access.txt");
    if std::env::var("KILN_WRITE_SNAPSHOTS").is_ok() {
        std::fs::write(&file, &now).expect("write the snapshot");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == now, "rights changed; KILN_WRITE_SNAPSHOTS=1 accepts this:\n{now}");
}
