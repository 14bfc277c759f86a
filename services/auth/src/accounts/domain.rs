//! The domains that are ours: each account and alias belongs to one. Whoever has neither there gets no mail.

use sqlx::{AssertSqlSafe, Row as _};

use super::{AccountError, Accounts, parse};
use crate::sql::{Pool, each};

/// One domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// How many accounts it has.
    pub accounts: i64,
    /// How many aliases, each counted once for each address it leads to.
    pub aliases: i64,
}

impl Accounts {
    /// All domains, sorted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn domains(&self) -> Result<Vec<Domain>, AccountError> {
        const ALL: &str = "SELECT name, \
            (SELECT COUNT(*) FROM virtual_users WHERE virtual_users.domain_id = virtual_domains.id) AS accounts, \
            (SELECT COUNT(*) FROM virtual_aliases WHERE virtual_aliases.domain_id = virtual_domains.id) AS aliases \
            FROM virtual_domains ORDER BY name";
        Ok(each!(&self.pool, pool => {
            let mut domains = Vec::new();
            for row in &sqlx::query(ALL).fetch_all(pool).await? {
                let (name, accounts, aliases) = (row.try_get("name")?, row.try_get("accounts")?, row.try_get("aliases")?);
                domains.push(Domain { name, accounts, aliases });
            }
            domains
        }))
    }

    /// Makes a domain ours, without anybody in it; says whether that is new.
    ///
    /// # Errors
    /// [`AccountError::Domain`] if that is no domain.
    pub async fn add_domain(&self, name: &str) -> Result<bool, AccountError> {
        let name = parse_domain(name)?;
        if self.has_domain(&name).await? {
            return Ok(false);
        }
        let (_, insert) = self.domain();
        each!(&self.pool, pool => { sqlx::query(AssertSqlSafe(insert)).bind(&name).execute(pool).await?; });
        Ok(true)
    }

    /// Gives it up.
    ///
    /// # Errors
    /// [`AccountError::DomainInUse`] while it has accounts or aliases; [`AccountError::NoDomain`].
    pub async fn remove_domain(&self, name: &str) -> Result<(), AccountError> {
        let name = parse_domain(name)?;
        // With the domain a database would take away what belongs to it.
        let sql = self.sql(
            "DELETE FROM virtual_domains WHERE name = ? \
             AND NOT EXISTS (SELECT 1 FROM virtual_users WHERE virtual_users.domain_id = virtual_domains.id) \
             AND NOT EXISTS (SELECT 1 FROM virtual_aliases WHERE virtual_aliases.domain_id = virtual_domains.id)",
        );
        let removed = each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(&name).execute(pool).await?.rows_affected()
        });
        match removed {
            0 if self.has_domain(&name).await? => Err(AccountError::DomainInUse(name)),
            0 => Err(AccountError::NoDomain(name)),
            _ => Ok(()),
        }
    }
}

fn parse_domain(name: &str) -> Result<String, AccountError> {
    let (_, domain) =
        parse(&format!("postmaster@{}", name.trim())).map_err(|_| AccountError::Domain(name.to_owned()))?;
    Ok(domain)
}
