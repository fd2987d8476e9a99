//! How ids, words and numbers look in the document of the API.
//!
//! `shared` knows nothing of documents, so what is its own is described here, from its own tables wherever it has one. Each type
//! stands for a schema and has no values. Deliberately absent: what requests and answers look like, which is said beside their
//! handlers.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, OneOfBuilder, RefOr,
        schema::{AdditionalProperties, ArrayBuilder, Schema, SchemaFormat, SchemaType, Type},
    },
};

use crate::http::{METADATA_KEY_LEN, METADATA_PAIRS, METADATA_VALUE_LEN, WEBHOOK_URL_LEN};
use shared::{
    account::{self, access},
    billing::EntryKind,
    id,
    price::Meter,
    usage, webhook,
};

/// Longest address of mail, as `shared` takes it.
const EMAIL_LEN: usize = 254;
/// Highest amount of a price's rule, as `shared` checks it.
const RULE_AMOUNT_MAX: u64 = 1_000_000_000;
/// Highest quantity of a price's rule.
const RULE_QUANTITY_MAX: u64 = 100_000_000;

macro_rules! described {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

described! {
    /// An account.
    AccountId = prefixed(id::AccountId::PREFIX);
    /// An API key.
    KeyId = prefixed(id::KeyId::PREFIX);
    /// A job.
    JobId = prefixed(id::JobId::PREFIX);
    /// A conversation.
    DialogId = prefixed(id::DialogId::PREFIX);
    /// In which form a dialog is exported.
    DialogForm = one_of(["json", "markdown"]);
    /// A job that makes a film, as OpenAI's clients know it.
    VideoId = text("^video_[0-9a-fA-F]{32}$");
    /// A file.
    FileId = prefixed(id::FileId::PREFIX);
    /// An endpoint that hears of the ends of jobs.
    EndpointId = prefixed(id::EndpointId::PREFIX);
    /// A webhook that was sent or is to be.
    NoticeId = prefixed(id::NoticeId::PREFIX);
    /// Where the provider of a job rings: the job, and a word that only it was told.
    CallbackId = text(&format!("^{}_[0-9a-fA-F]{{32}}-.+$", id::JobId::PREFIX));
    /// A movement of tokens.
    EntryId = prefixed(id::EntryId::PREFIX);
    /// A person.
    UserId = prefixed(id::UserId::PREFIX);
    /// A login.
    SessionId = prefixed(id::SessionId::PREFIX);
    /// An invitation.
    InvitationId = prefixed(id::InvitationId::PREFIX);
    /// An entry of the audit log.
    AuditId = prefixed(id::AuditId::PREFIX);
    /// Tokens given at one time.
    GrantId = prefixed(id::GrantId::PREFIX);
    /// A plan that an account has.
    SubscriptionId = prefixed(id::SubscriptionId::PREFIX);
    /// An archive of everything about an account.
    ExportId = prefixed(id::ExportId::PREFIX);
    /// A person or an invitation.
    BelongingId = text(&format!(
        "^({}|{})_[0-9a-fA-F]{{32}}$",
        id::UserId::PREFIX,
        id::InvitationId::PREFIX
    ));
    /// A person or a key.
    ActorId = text(&format!("^({}|{})_[0-9a-fA-F]{{32}}$", id::UserId::PREFIX, id::KeyId::PREFIX));

    /// What a member of an account is in it.
    Role = one_of(access::Role::ALL.map(access::Role::word));
    /// What somebody may be invited as.
    InvitedRole = one_of(
        access::Role::ALL.into_iter().filter(|role| *role != access::Role::Owner).map(access::Role::word)
    );
    /// What one of the platform's own people is.
    OperatorRole = one_of(access::OperatorRole::ALL.map(access::OperatorRole::word));
    /// Something that may be done over the API.
    Permission = one_of(access::TABLE.iter().map(|row| row.word));
    /// How an account stands.
    AccountStatus = one_of(["active", "suspended", "erasing", "erased"]);
    /// A way that a job ends.
    JobEvent = one_of(webhook::events().iter().map(String::as_str));
    /// What a webhook tells of.
    WebhookEvent = one_of(webhook::events().iter().map(String::as_str).chain([webhook::TEST]));
    /// What became of a webhook.
    DeliveryStatus = one_of(webhook::STATUSES);
    /// Why an endpoint is told of nothing.
    DisabledReason = one_of(["owner", "gone", "failing"]);
    /// An https URL; one that leads into a private network is refused.
    WebhookUrl = text("^https?://").max_length(Some(WEBHOOK_URL_LEN));
    /// Pairs of a caller's own.
    Metadata = ObjectBuilder::new()
        .property_names(Some(words(1, METADATA_KEY_LEN)))
        .additional_properties(Some(words(0, METADATA_VALUE_LEN)))
        .max_properties(Some(METADATA_PAIRS));
    /// What moved tokens.
    TransactionKind = one_of(EntryKind::ALL.map(|(_, word)| word));
    /// Where tokens were or are.
    Pot = one_of(["platform", "available", "held", "revenue", "credit"]);
    /// What usage is broken down by.
    UsageGroup = one_of(usage::GroupBy::ALL.map(usage::GroupBy::word));
    /// What a margin is broken down by.
    MarginGroup = one_of(usage::By::ALL.map(usage::By::word));
    /// In which form a report is wanted.
    ReportFormat = one_of(["json", "csv"]);
    /// The document that people agree to.
    Document = one_of([account::PERSONAL_DATA]);

    /// An address of mail.
    Email = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("email".into())))
        .max_length(Some(EMAIL_LEN));
    /// An exact decimal, as text.
    Amount = text(r"^-?[0-9]+(\.[0-9]+)?$");
    /// A network such as `10.0.0.0/8`, or one address.
    Network = text("^[0-9a-fA-F.:]+(/[0-9]{1,3})?$");
    /// So many tokens for each unit of what is counted, where the input is like this.
    PriceRule = rule();
}

/// A text of this form.
fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// A text so long.
fn words(shortest: usize, longest: usize) -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(longest));
    if shortest > 0 { text.min_length(Some(shortest)) } else { text }
}

/// An id that begins so.
fn prefixed(prefix: &str) -> ObjectBuilder {
    text(&format!("^{prefix}_[0-9a-fA-F]{{32}}$"))
}

/// One of these words.
fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))
}

fn rule() -> ObjectBuilder {
    let meters = [
        Meter::Request,
        Meter::PromptToken,
        Meter::CompletionToken,
        Meter::Image,
        Meter::Megapixel,
        Meter::Second,
        Meter::Character,
    ];
    let whole =
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0_u64)).maximum(Some(RULE_AMOUNT_MAX));
    let exact = text(r"^[0-9]{1,10}(\.[0-9]{1,28})?$");
    let quantity = |what: &str| {
        ObjectBuilder::new()
            .schema_type(SchemaType::Array(vec![Type::Integer, Type::Null]))
            .minimum(Some(1_u64))
            .maximum(Some(RULE_QUANTITY_MAX))
            .description(Some(what))
    };
    let value = || ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let values =
        OneOfBuilder::new().item(ArrayBuilder::new().items(value())).item(ObjectBuilder::new().schema_type(
            SchemaType::Array(vec![Type::String, Type::Number, Type::Boolean, Type::Object, Type::Null]),
        ));
    ObjectBuilder::new()
        .property("per", one_of(meters.map(Meter::word)))
        .property("tokens", OneOfBuilder::new().item(whole).item(exact))
        .property(
            "when",
            ObjectBuilder::new()
                .description(Some(
                    "What the input must say: a field, and the value or the values that will do.",
                ))
                .additional_properties(Some(RefOr::<Schema>::from(values))),
        )
        .property("most", quantity("Most units of one result where the input sets no limit itself."))
        .property("typical", quantity("Units that one result ordinarily has."))
        .required("per")
        .required("tokens")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

/// What a type's schema says of a field, for tests that compare it with what the code does.
#[cfg(test)]
pub fn said<T: PartialSchema>(field: &str, keyword: &str) -> serde_json::Value {
    let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
    schema["properties"][field][keyword].clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_described_as_it_is_read() {
        let schema = serde_json::to_value(AccountId::schema()).unwrap();
        assert_eq!(schema["pattern"], "^acc_[0-9a-fA-F]{32}$");
        assert_eq!(AccountId::name(), "AccountId");
    }

    #[test]
    fn words_are_those_of_the_tables() {
        let schema = serde_json::to_value(Permission::schema()).unwrap();
        assert_eq!(schema["enum"].as_array().map(Vec::len), Some(access::TABLE.len()));
        let invited = serde_json::to_value(InvitedRole::schema()).unwrap();
        assert_eq!(invited["enum"], serde_json::json!(["admin", "developer", "viewer"]));
    }
}
