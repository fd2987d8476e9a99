//! The pages behind mailed links: a person opens one in a browser, reads what it is about, and presses a button.
//!
//! Opening a page changes nothing: mail scanners follow links, and only the button posts. A page is one answer with no
//! script and nothing from elsewhere, and says so to the browser; the token in its address goes to no other site. Deliberately
//! absent: everything else people would do in a browser.

use std::sync::LazyLock;

use axum::{
    Json,
    extract::State,
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{ApiError, Ctx, request::Query};

/// Looks, in either light; a narrow column reads well on a phone.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2330; --paper: #f4f5f8; --card: #fff; --line: #d5d9e2; --deed: #3355dd; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaf0; --paper: #14171f; --card: #1d212c; --line: #39404f; --deed: #6f8cff; --bad: #ff8a80 }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { width: 100%; max-width: 26rem; padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px }
h1 { margin: 0 0 .5rem; font-size: 1.35rem }
p { margin: .5rem 0 }
label { display: block; margin-top: 1rem; font-weight: 600 }
label.tick { font-weight: 400 }
input:not([type=checkbox]) { width: 100%; margin-top: .25rem; padding: .6rem .7rem; font: inherit; color: inherit;
  background: var(--paper); border: 1px solid var(--line); border-radius: 8px }
button { width: 100%; margin-top: 1.5rem; padding: .7rem; font: inherit; font-weight: 600; color: #fff; background: var(--deed);
  border: 0; border-radius: 8px; cursor: pointer }
small { opacity: .75 }
.bad { color: var(--bad) }
";

/// What a browser may do with a page: show it in this style and send its form back to us.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&policy).expect("a policy is plain text")
});

/// A page with a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Proves an address.
    Verify,
    /// Asks for a link to set a new password.
    Forgot,
    /// Sets a new password.
    Reset,
    /// Joins an account.
    Accept,
}

impl Page {
    fn title(self) -> &'static str {
        match self {
            Self::Verify => "Confirm your e-mail address",
            Self::Forgot => "Forgot your password?",
            Self::Reset => "Set a new password",
            Self::Accept => "Join an account",
        }
    }

    /// What it says when its deed is done.
    fn done(self) -> (&'static str, &'static str) {
        match self {
            Self::Verify => ("Thank you", "Your e-mail address is confirmed. You can log in now."),
            Self::Forgot => {
                ("Look into your mail", "If this address is registered, a link is on its way to it.")
            }
            Self::Reset => {
                ("Your new password is set", "You were logged out everywhere. Log in with it from now on.")
            }
            Self::Accept => {
                ("Welcome", "You belong to the account now. Log in with your address and password.")
            }
        }
    }

    /// The form, which posts to the path that the page itself has.
    fn form(self, token: &str, consent_version: &str) -> String {
        let token = format!(r#"<input type="hidden" name="token" value="{}">"#, escape(token));
        match self {
            Self::Verify => format!(
                r#"<p>Type the password that you chose when you registered, to confirm that it was you.</p>
<form method="post" action="verify">{token}<label>Your password
<input type="password" name="password" required maxlength="128" autocomplete="current-password"></label>
<button>Confirm my address</button></form>
<p><a href="password/forgot">I do not know it: set a new one</a></p>"#
            ),
            Self::Forgot => r#"<p>Tell us your e-mail address, and we will send you a link to set a new password.</p>
<form method="post" action="forgot"><label>E-mail address
<input type="email" name="email" required autocomplete="username"></label><button>Send me a link</button></form>"#
                .to_owned(),
            Self::Reset => format!(
                r#"<p>Choose a password of 10 to 128 characters.</p>
<form method="post" action="reset">{token}<label>New password
<input type="password" name="password" required minlength="10" maxlength="128" autocomplete="new-password"></label>
<button>Set the password</button></form>"#
            ),
            Self::Accept => format!(
                r#"<p>If you have a login already, type its password. If not, choose one of 10 to 128 characters.</p>
<form method="post" action="accept">{token}<label>Your name
<input name="name" maxlength="200" autocomplete="name"></label><label>Password
<input type="password" name="password" required minlength="10" maxlength="128" autocomplete="current-password"></label>
<label class="tick"><input type="checkbox" name="consent[version]" value="{version}" required>
I agree to the processing of my personal data (version {version}).</label>
<button>Join</button></form>"#,
                version = escape(consent_version)
            ),
        }
    }

    fn show(self, ctx: &Ctx, token: &str, wrong: Option<&str>) -> String {
        let wrong = wrong.map(|words| format!(r#"<p class="bad" role="alert">{}</p>"#, escape(words)));
        let form = self.form(token, &ctx.people.consent_version);
        page(self.title(), &format!("{}{form}", wrong.unwrap_or_default()))
    }

    /// What a deed came to: for a program as JSON, for a person as a page, with the form again where trying again helps.
    pub fn answer(
        self,
        ctx: &Ctx,
        by_page: bool,
        token: &str,
        came: Result<(StatusCode, Value), ApiError>,
    ) -> Response {
        match came {
            Ok((status, value)) if !by_page => (status, Json(value)).into_response(),
            Err(error) if !by_page => error.into_response(),
            Ok((status, _)) => {
                let (title, words) = self.done();
                html(status, page(title, &format!("<p>{words}</p>")))
            }
            Err(error) => html(error.status(), self.show(ctx, token, Some(error.message()))),
        }
    }
}

/// The page behind the link that proves an address.
#[utoipa::path(
    get,
    path = "/v1/auth/verify",
    operation_id = "auth_verify_page",
    params(("token" = Option<String>, Query, description = "What the mailed link carries")),
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
pub async fn verify(State(ctx): State<Ctx>, query: Query) -> Result<Response, ApiError> {
    with_token(&ctx, Page::Verify, query)
}

/// The page that asks for a link to set a new password.
#[utoipa::path(
    get,
    path = "/v1/auth/password/forgot",
    operation_id = "password_forgot_page",
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
pub async fn forgot(State(ctx): State<Ctx>) -> Response {
    html(StatusCode::OK, Page::Forgot.show(&ctx, "", None))
}

/// The page behind the link that sets a new password.
#[utoipa::path(
    get,
    path = "/v1/auth/password/reset",
    operation_id = "password_reset_page",
    params(("token" = Option<String>, Query, description = "What the mailed link carries")),
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
pub async fn reset(State(ctx): State<Ctx>, query: Query) -> Result<Response, ApiError> {
    with_token(&ctx, Page::Reset, query)
}

/// The page behind an invitation.
#[utoipa::path(
    get,
    path = "/v1/auth/invitations/accept",
    operation_id = "invitation_accept_page",
    params(("token" = Option<String>, Query, description = "What the mailed link carries")),
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
pub async fn accept(State(ctx): State<Ctx>, query: Query) -> Result<Response, ApiError> {
    with_token(&ctx, Page::Accept, query)
}

/// Whether the token is good is not looked up: only the button tells.
fn with_token(ctx: &Ctx, page: Page, mut query: Query) -> Result<Response, ApiError> {
    let token: String = query.take("token")?.unwrap_or_default();
    Ok(html(StatusCode::OK, page.show(ctx, &token, None)))
}

fn page(title: &str, inner: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – Kiln</title><style>{STYLE}</style></head>
<body><main><h1>{title}</h1>{inner}<p><small>Kiln</small></p></main></body></html>
"#
    )
}

fn html(status: StatusCode, text: String) -> Response {
    let mut response = (status, Html(text)).into_response();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Text as HTML shows it, also within quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_link_holds_stays_text() {
        let form = Page::Reset.form(r#""><script>alert('x')</script>&"#, "1");
        assert!(!form.contains("<script"), "{form}");
        assert!(
            form.contains(r#"value="&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;""#),
            "{form}"
        );
    }
}
