//! The platform's own people at the command line: the only way to the first of them.

use anyhow::{Context, anyhow};
use clap::Subcommand;
use serde_json::{Value, json};
use shared::account::{self, OperatorError, User};

use super::{
    Ctx,
    answer::{Answer, Table, minute, or_nothing},
    words::{self, Person, RoleWord},
};

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum Operators {
    /// List everyone with a role among operators.
    List,
    /// Make a person an operator, an operator of another kind, or none again.
    Set {
        /// Their e-mail address or id; they registered and verified the address before.
        #[arg(value_name = "EMAIL", value_parser = words::person)]
        person: Person,
        /// Their role, for all accounts.
        #[arg(value_parser = words::role())]
        role: RoleWord,
    },
}

/// Does what was asked.
///
/// # Errors
/// Says what was refused and what would mend it.
pub async fn run(ctx: &Ctx, asked: Operators) -> anyhow::Result<Answer> {
    match asked {
        Operators::List => {
            let found = account::operators(&ctx.db).await?;
            Ok(Answer::list(found.iter().map(json_of).collect(), &table(&found)))
        }
        Operators::Set { person, role: RoleWord(role) } => {
            let user = match person {
                Person::Id(user) => user,
                Person::Email(email) => {
                    let found = account::find_user(&ctx.db, &email).await?;
                    found.with_context(|| {
                        format!("nobody has registered as {}; they do that first", email.as_str())
                    })?
                }
            };
            let set = account::set_operator_role(&ctx.db, user, role, &ctx.by, ctx.now).await;
            let person = set.map_err(|error| match error {
                OperatorError::UnknownUser => anyhow!("there is no person {user}, or they are erased"),
                OperatorError::Unverified => {
                    anyhow!("{user} has not verified their address: they follow the link in their mail first")
                }
                error @ (OperatorError::LastSuperAdmin | OperatorError::Db(_)) => error.into(),
            })?;
            Ok(Answer::new(json_of(&person), table(std::slice::from_ref(&person))))
        }
    }
}

fn table(people: &[User]) -> Table {
    let mut table = Table::headed(&["id", "role", "e-mail", "name", "since"]);
    for person in people {
        table.row(&[
            person.id.to_string(),
            or_nothing(person.operator_role.as_deref()),
            or_nothing(person.email.as_deref()),
            or_nothing(person.name.as_deref()),
            minute(person.created_at),
        ]);
    }
    table
}

fn json_of(person: &User) -> Value {
    json!({
        "id": person.id, "object": "user", "email": person.email, "name": person.name,
        "operator_role": person.operator_role, "created_at": person.created_at,
    })
}
