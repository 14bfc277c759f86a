//! What a route logs in with.

use std::sync::Arc;

use secrecy::ExposeSecret;
use staffetta_config as config;
use staffetta_smtp::client::{Credentials, Secret};

use crate::token::Account;

/// See the module.
#[derive(Clone, Debug)]
pub enum Login {
    /// A password.
    Password(Arc<Credentials>),
    /// A token, which [`crate::token::Tokens`] finds.
    Token(Arc<Account>),
}

/// What stands for a login where next hops are told apart: another secret makes another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LoginKey {
    Password(Arc<Credentials>),
    Token(Arc<str>),
}

impl Login {
    /// Of a route; `None` also where this process does not have the secrets.
    pub(super) fn of(route: &config::Route) -> Option<Self> {
        let (username, Some(password)) = (route.username.clone()?, &route.password) else {
            return Account::of(route).map(|account| Self::Token(Arc::new(account)));
        };
        let secret = Secret::Password(password.expose_secret().to_owned());
        Some(Self::Password(Arc::new(Credentials { username, secret })))
    }

    pub(super) fn key(&self) -> LoginKey {
        match self {
            Self::Password(credentials) => LoginKey::Password(credentials.clone()),
            Self::Token(account) => LoginKey::Token(account.key().clone()),
        }
    }
}
