//! Addresses that lead to an account. They receive; who may send as them is `auth.sql.sender_query`'s to say.

use sqlx::AssertSqlSafe;

use super::{AccountError, Accounts, found, parse};
use crate::sql::{Pool, each};

impl Accounts {
    /// Lets mail for `alias` go to an account; adds the alias' domain when that is missing. Says whether that is new.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] without such an account; [`AccountError::Exists`] if the alias is an account itself.
    pub async fn add_alias(&self, address: &str, alias: &str) -> Result<bool, AccountError> {
        let (address, _) = parse(address)?;
        let (alias, domain) = parse(alias)?;
        self.stored(&address).await?;
        if self.stored(&alias).await.is_ok() {
            return Err(AccountError::AliasIsAccount(alias));
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
        let ((address, _), (alias, _)) = (parse(address)?, parse(alias)?);
        let sql = self.sql("DELETE FROM virtual_aliases WHERE LOWER(source) = ? AND LOWER(destination) = ?");
        let rows = each!(&self.pool, pool => {
            sqlx::query(AssertSqlSafe(sql)).bind(&alias).bind(&address).execute(pool).await?.rows_affected()
        });
        found(rows, String::new()).map_err(|_| AccountError::NoAlias { alias, address })
    }
}
