//! Kling's door: a JWT the client signs itself, checked for real.
//!
//! Signature, issuer, `exp` and `nbf` must all be there and right; each failure has its own vendor code.

use axum::http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use serde::Deserialize;

use crate::answer::bearer;

/// The access key, which is the issuer of every token.
pub(crate) const ACCESS_KEY: &str = "simulator";
/// The key tokens are signed with.
pub(crate) const SECRET_KEY: &str = "simulated";
/// How far the client's clock may be off, in seconds; the vendor's own samples set `nbf` five seconds back.
const LEEWAY_SECS: u64 = 5;

/// Read only so that the claims must be an object; jsonwebtoken checks what they say.
#[derive(Debug, Deserialize)]
struct Claims {}

/// Why a token is not accepted: the vendor's code and words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// 1001 to 1004.
    pub code: u16,
    /// The vendor's words.
    pub text: &'static str,
}

const EMPTY: Rejection = Rejection { code: 1001, text: "Authorization is empty" };
const INVALID: Rejection = Rejection { code: 1002, text: "Authorization is invalid" };
const EARLY: Rejection = Rejection { code: 1003, text: "Authorization is not yet valid" };
const LATE: Rejection = Rejection { code: 1004, text: "Authorization has expired" };

/// Lets a request in or says why not.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(token) = bearer(headers) else { return Err(EMPTY) };
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY_SECS;
    validation.validate_nbf = true;
    validation.set_issuer(&[ACCESS_KEY]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss"]);
    let key = DecodingKey::from_secret(SECRET_KEY.as_bytes());
    match decode::<Claims>(token, &key, &validation) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            ErrorKind::ExpiredSignature => LATE,
            ErrorKind::ImmatureSignature => EARLY,
            _ => INVALID,
        }),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock;

    fn check_token(claims: &Value, secret: &str) -> Result<(), u16> {
        let token = encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        check(&headers).map_err(|rejection| rejection.code)
    }

    #[test]
    fn a_token_must_be_signed_and_in_time() {
        let now = clock::now_secs();
        let good = json!({ "iss": ACCESS_KEY, "exp": now + 1800, "nbf": now - 5 });
        assert_eq!(check_token(&good, SECRET_KEY), Ok(()));
        assert_eq!(check_token(&good, "guessed"), Err(1002));
        let stranger = json!({ "iss": "someone", "exp": now + 1800, "nbf": now - 5 });
        assert_eq!(check_token(&stranger, SECRET_KEY), Err(1002));
        let timeless = json!({ "iss": ACCESS_KEY, "exp": now + 1800 });
        assert_eq!(check_token(&timeless, SECRET_KEY), Err(1002));
        let early = json!({ "iss": ACCESS_KEY, "exp": now + 1800, "nbf": now + 60 });
        assert_eq!(check_token(&early, SECRET_KEY), Err(1003));
        let late = json!({ "iss": ACCESS_KEY, "exp": now - 60, "nbf": now - 1800 });
        assert_eq!(check_token(&late, SECRET_KEY), Err(1004));
        assert_eq!(check(&HeaderMap::new()), Err(EMPTY));
    }
}
