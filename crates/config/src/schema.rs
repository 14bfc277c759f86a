//! The tables of a database that others have laid out, and how they are asked: what stands in for each query that the
//! operator does not give.
//!
//! The statements are the same for SQLite (3.44 or newer, for CONCAT), PostgreSQL and MySQL: `active` is compared with
//! `'1'`, which is a number to the ones and true to the other.

use crate::reader::Reader;
use crate::{Schema, Sql};

/// Of PostfixAdmin. A mailbox in an active domain is a login; without its row nobody knows it.
const MAILBOX: &str = "SELECT mailbox.username AS login, mailbox.password AS password FROM mailbox \
    JOIN domain ON domain.domain = mailbox.domain \
    WHERE mailbox.username = :login AND mailbox.active = '1' AND domain.active = '1'";

/// The mailbox itself, and whoever an alias leads to; both by the name of a domain that stands for theirs, too.
const OWNERS: &str = "SELECT mailbox.username AS login FROM mailbox \
    JOIN domain ON domain.domain = mailbox.domain \
    WHERE mailbox.username = :sender AND mailbox.active = '1' AND domain.active = '1' \
    UNION SELECT alias.goto AS login FROM alias \
    JOIN domain ON domain.domain = alias.domain \
    WHERE alias.address = :sender AND alias.active = '1' AND domain.active = '1' \
    UNION SELECT mailbox.username AS login FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    JOIN mailbox ON mailbox.username = CONCAT(:local, '@', alias_domain.target_domain) \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND mailbox.active = '1' AND domain.active = '1' \
    UNION SELECT alias.goto AS login FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    JOIN alias ON alias.address = CONCAT(:local, '@', alias_domain.target_domain) \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND alias.active = '1' AND domain.active = '1'";

/// PostfixAdmin has a row `ALL` for its administrators, which is no domain.
const DOMAINS: &str = "SELECT domain FROM domain WHERE domain = :domain AND domain <> 'ALL' AND active = '1' \
    UNION SELECT alias_domain.alias_domain FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND domain.active = '1'";

const RECIPIENTS: &str = "SELECT mailbox.username FROM mailbox \
    JOIN domain ON domain.domain = mailbox.domain \
    WHERE mailbox.username = :recipient AND mailbox.active = '1' AND domain.active = '1' \
    UNION SELECT alias.address FROM alias \
    JOIN domain ON domain.domain = alias.domain \
    WHERE alias.address = :recipient AND alias.active = '1' AND domain.active = '1' \
    UNION SELECT mailbox.username FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    JOIN mailbox ON mailbox.username = CONCAT(:local, '@', alias_domain.target_domain) \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND mailbox.active = '1' AND domain.active = '1' \
    UNION SELECT alias.address FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    JOIN alias ON alias.address = CONCAT(:local, '@', alias_domain.target_domain) \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND alias.active = '1' AND domain.active = '1'";

/// By the name of a domain that stands for another, the address there, whatever that is.
const ALIASES: &str = "SELECT alias.goto AS destination FROM alias \
    JOIN domain ON domain.domain = alias.domain \
    WHERE alias.address = :recipient AND alias.active = '1' AND domain.active = '1' \
    UNION SELECT mailbox.username AS destination FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    JOIN mailbox ON mailbox.username = CONCAT(:local, '@', alias_domain.target_domain) \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND mailbox.active = '1' AND domain.active = '1' \
    UNION SELECT alias.address AS destination FROM alias_domain \
    JOIN domain ON domain.domain = alias_domain.target_domain \
    JOIN alias ON alias.address = CONCAT(:local, '@', alias_domain.target_domain) \
    WHERE alias_domain.alias_domain = :domain AND alias_domain.active = '1' AND alias.active = '1' AND domain.active = '1'";

/// Puts the statements of the schema in the place of those that were not given. Who asks for recipients in his own way has
/// tables of his own, in which nobody knows where the aliases are.
pub(crate) fn apply(sql: &mut Sql, reader: &Reader) {
    let is_given = |key: &str| reader.places.contains_key(&format!("auth.sql.{key}"));
    if is_given("recipient_query") && !is_given("alias_query") {
        sql.alias_query.clear();
    }
    match sql.schema {
        // The defaults of the keys are its statements.
        Schema::IspMail => {}
        Schema::PostfixAdmin => {
            for (key, query, text) in [
                ("password_query", &mut sql.password_query, MAILBOX),
                ("sender_query", &mut sql.sender_query, OWNERS),
                ("domain_query", &mut sql.domain_query, DOMAINS),
                ("recipient_query", &mut sql.recipient_query, RECIPIENTS),
                ("alias_query", &mut sql.alias_query, ALIASES),
            ] {
                let is_own = is_given(key) || key == "alias_query" && is_given("recipient_query");
                if !is_own {
                    text.clone_into(query);
                }
            }
        }
    }
}
