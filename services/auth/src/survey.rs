//! What the stored passwords of all accounts are worth, for `staffetta check`. Reads the tables of the ISPmail guide: an
//! operator's query answers for one login at a time.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use staffetta_config::{Auth, Mechanism, Sql, open_to_all};

use crate::accounts::{AccountError, Accounts};
use crate::scheme::{self, Scram};
use crate::sql::{Pool, SqliteFile, each};

/// How many accounts have which scheme, of those that something is to be said about.
#[derive(Default)]
struct Survey {
    unreadable: Counts,
    clear: Counts,
    without_scram: Counts,
}

#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

/// What an operator should know of the accounts, a line each; nothing where they are kept elsewhere, or cannot be read.
pub async fn warnings(config: &Auth) -> Vec<String> {
    let mut lines = open_file(&config.sql);
    let Ok(accounts) = Accounts::existing(&config.sql).await else { return lines };
    let survey = Survey::of(accounts.pool()).await.unwrap_or_default();
    accounts.close().await;
    let offers_scram = config.mechanisms.contains(&Mechanism::ScramSha256);
    lines.extend(survey.lines(offers_scram));
    lines
}

/// Of a database that is a file which everybody can read, whoever made it and whatever its tables are.
fn open_file(sql: &Sql) -> Vec<String> {
    let file = Pool::new(&sql.url, SqliteFile::MustExist).ok().and_then(|pool| pool.sqlite_file());
    let what = file.and_then(|path| open_to_all(&path));
    what.map(|what| format!("auth.sql.url: {what}")).into_iter().collect()
}

/// How many iterations most verifiers of SCRAM have, by a sample; `None` where there are none, or they cannot be read.
pub(crate) async fn iterations(sql: &Sql) -> Option<u32> {
    let accounts = Accounts::existing(sql).await.ok()?;
    let sample = sample(accounts.pool()).await.ok();
    accounts.close().await;
    sample?.into_iter().max_by_key(|(_, accounts)| *accounts).map(|(iterations, _)| iterations)
}

/// Counts of iterations, and of accounts that have them.
async fn sample(pool: &Pool) -> Result<BTreeMap<u32, u64>, AccountError> {
    const SOME: &str = "SELECT password FROM virtual_users WHERE password LIKE '{SCRAM-SHA-256}%' LIMIT 1000";
    let mut sample = BTreeMap::new();
    each_password(pool, SOME, |stored| {
        if let Ok(Scram::Verifier(verifier)) = scheme::scram(stored) {
            *sample.entry(verifier.iterations).or_default() += 1;
        }
    })
    .await?;
    Ok(sample)
}

/// Those that a query answers with, one a row; NULL is an empty one.
async fn each_password(pool: &Pool, query: &'static str, mut visit: impl FnMut(&str)) -> Result<(), AccountError> {
    each!(pool, pool => {
        let mut rows = sqlx::query(query).fetch(pool);
        while let Some(row) = rows.try_next().await? {
            visit(row.try_get::<Option<String>, _>("password")?.as_deref().unwrap_or_default());
        }
    });
    Ok(())
}

impl Survey {
    async fn of(pool: &Pool) -> Result<Self, AccountError> {
        let mut survey = Self::default();
        each_password(pool, "SELECT password FROM virtual_users", |stored| survey.add(stored)).await?;
        Ok(survey)
    }

    fn add(&mut self, stored: &str) {
        if stored.is_empty() || scheme::is_locked(stored) {
            return;
        }
        match scheme::scram(stored) {
            Err(_) => self.unreadable.add(stored),
            Ok(_) if scheme::check(stored).is_err() => self.unreadable.add(stored),
            Ok(Scram::Password(_)) => self.clear.add(stored),
            Ok(Scram::Nothing) => self.without_scram.add(stored),
            Ok(Scram::Verifier(_)) => {}
        }
    }

    fn lines(&self, offers_scram: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |counts: &Counts, text: &str| {
            if !counts.0.is_empty() {
                lines.push(format!("auth.sql: {text}: {}", counts.shown()));
            }
        };
        say(&self.unreadable, "passwords that cannot be verified, whose logins get 454 4.7.0");
        say(&self.clear, "passwords in clear, which whoever reads the table can use");
        if offers_scram {
            say(&self.without_scram, "passwords that SCRAM-SHA-256, which auth.mechanisms offers, cannot use");
        }
        lines
    }
}

impl Counts {
    fn add(&mut self, stored: &str) {
        *self.0.entry(scheme::named(stored)).or_default() += 1;
    }

    /// The first ten: what stands between the braces of a broken table may be anything.
    fn shown(&self) -> String {
        let mut parts: Vec<String> = self.0.iter().take(10).map(|(name, count)| format!("{count} × {name}")).collect();
        if self.0.len() > parts.len() {
            parts.push("…".to_owned());
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_its_scheme() {
        let mut survey = Survey::default();
        for stored in [
            "",
            "!$6$x",
            "{SHA}!x",
            "{WHIRLPOOL}x",
            "{WHIRLPOOL}y",
            "summersun",
            "{PLAIN}summersun",
            "{SHA}qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
            "{SCRAM-SHA-256}4096,x",
            "{SCRAM-SHA-256}4096,JvKBaqq69uL8FtR/1AlekQ==,DBBOIg3i3gvucCTSDflf7hicEvhme3KiJvW7TY1cDJw=,fbIJWBd68RxxEovZbcynfb5KntLF8SUDlpECjMI5fpg=",
        ] {
            survey.add(stored);
        }
        let lines = survey.lines(true);
        assert!(lines[0].ends_with("4.7.0: 1 × SCRAM-SHA-256, 1 × without a prefix, 2 × {WHIRLPOOL}"), "{lines:?}");
        assert!(lines[1].contains("in clear") && lines[1].ends_with(": 1 × PLAIN"), "{lines:?}");
        assert!(lines[2].ends_with("cannot use: 1 × SHA"), "{lines:?}");
        assert_eq!(survey.lines(false).len(), 2);
        assert!(Survey::default().lines(true).is_empty());
        assert!(!lines.join("").contains("summersun"));
    }

    #[test]
    fn a_broken_table_makes_no_endless_line() {
        let mut survey = Survey::default();
        (0..100).for_each(|number| survey.add(&format!("{{X{number:02}}}")));
        assert!(survey.lines(true)[0].ends_with("1 × {X09}, …"));
    }
}
