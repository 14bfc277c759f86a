//! Addresses that lead to others: to accounts, to aliases, or out of the house. They receive; who may send as them is `auth.sql.sender_query`'s to say.

use sqlx::AssertSqlSafe;

use super::{AccountError, Accounts, found, parse};
use crate::sql::{Pool, each};

impl Accounts {
    /// Lets mail for `alias` go to an address: an account, another alias, or whoever has it in a domain that is not ours.
    /// `@domain` is for all there who are neither. `new_domain`: makes the alias' domain ours when it is not. Says whether that
    /// is new.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] without such an account; [`AccountError::AliasIsAccount`];
    /// [`AccountError::UnknownDomain`] of the alias.
    pub async fn add_alias(&self, address: &str, alias: &str, new_domain: bool) -> Result<bool, AccountError> {
        let (address, home) = parse(address)?;
        let (alias, domain) = parse_alias(alias)?;
        if self.has_domain(&home).await? && !self.has_alias(&address).await? {
            self.stored(&address).await?;
        }
        if self.stored(&alias).await.is_ok() {
            return Err(AccountError::AliasIsAccount(alias));
        }
        if !new_domain && !self.has_domain(&domain).await? {
            return Err(AccountError::UnknownDomain(domain));
        }
        let select = self.sql("SELECT 1 FROM virtual_aliases WHERE LOWER(source) = ? AND LOWER(destination) = ?");
        let insert = self.sql(
            "INSERT INTO virtual_aliases (domain_id, source, destination) SELECT id, ?, ? FROM virtual_domains WHERE name = ?",
        );
        let (select_domain, insert_domain) = self.domain();
        Ok(each!(&self.pool, pool => async {
            let mut transaction = pool.begin().await?;
            let there = sqlx::query(AssertSqlSafe(select)).bind(&alias).bind(&address);
            if there.fetch_optional(&mut *transaction).await?.is_some() {
                return Ok(false);
            }
            let known = sqlx::query(AssertSqlSafe(select_domain)).bind(&domain);
            if known.fetch_optional(&mut *transaction).await?.is_none() {
                sqlx::query(AssertSqlSafe(insert_domain)).bind(&domain).execute(&mut *transaction).await?;
            }
            let insert = sqlx::query(AssertSqlSafe(insert)).bind(&alias).bind(&address).bind(&domain);
            insert.execute(&mut *transaction).await?;
            transaction.commit().await.map(|()| true)
        }.await)?)
    }

    /// Takes it away again; the domain stays.
    ///
    /// # Errors
    /// [`AccountError::NoAlias`] if it does not lead there.
    pub async fn remove_alias(&self, address: &str, alias: &str) -> Result<(), AccountError> {
        let ((address, _), (alias, _)) = (parse(address)?, parse_alias(alias)?);
        let sql = self.sql("DELETE FROM virtual_aliases WHERE LOWER(source) = ? AND LOWER(destination) = ?");
        let rows = each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(&alias).bind(&address).execute(pool).await?.rows_affected()
        });
        found(rows, String::new()).map_err(|_| AccountError::NoAlias { alias, address })
    }

    /// All aliases and where each leads, sorted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn aliases(&self) -> Result<Vec<(String, String)>, AccountError> {
        const ALL: &str = "SELECT source, destination FROM virtual_aliases ORDER BY source, destination";
        Ok(each!(&self.pool, pool => {
            let rows = sqlx::query(ALL).fetch_all(pool).await?;
            rows.iter().map(both).collect::<Result<_, sqlx::Error>>()?
        }))
    }

    /// Is mail to this domain ours?
    pub(super) async fn has_domain(&self, domain: &str) -> Result<bool, AccountError> {
        self.finds(self.domain().0, domain).await
    }

    async fn has_alias(&self, source: &str) -> Result<bool, AccountError> {
        self.finds(self.sql("SELECT 1 FROM virtual_aliases WHERE LOWER(source) = ?"), source).await
    }

    async fn finds(&self, sql: String, name: &str) -> Result<bool, AccountError> {
        Ok(each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(name).fetch_optional(pool).await?.is_some()
        }))
    }
}

fn both<'r, R: sqlx::Row>(row: &'r R) -> Result<(String, String), sqlx::Error>
where
    &'static str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    Ok((row.try_get("source")?, row.try_get("destination")?))
}

/// An address, or `@domain`; with it the domain.
fn parse_alias(alias: &str) -> Result<(String, String), AccountError> {
    let wrong = |_| AccountError::Address(alias.to_owned());
    match alias.trim().strip_prefix('@') {
        Some(domain) => {
            let (_, domain) = parse(&format!("postmaster@{domain}")).map_err(wrong)?;
            Ok((format!("@{domain}"), domain))
        }
        None => parse(alias),
    }
}
