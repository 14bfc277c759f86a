//! `staffetta user` and `staffetta auth`.

use clap::{Args, Subcommand};

use super::ConfigFile;

/// `staffetta user`
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make the tables of the ISPmail guide in an empty database; SQLite gets them with its first account
    Init(ConfigFile),
    /// Add an account; the password is read from the terminal or standard input
    Add(NewPassword),
    /// Remove an account
    Remove(OneUser),
    /// List the accounts
    List(Users),
    /// Show an account: how its password is stored, whether it can log in, which aliases lead to it
    Show(Shown),
    /// Set an account's password, read from the terminal or standard input
    Password(NewPassword),
    /// Let mail for another address go to an account
    Alias(Alias),
    /// List the aliases and where they lead
    Aliases(Users),
    /// List the domains whose mail is ours, add one, or give one up
    #[command(subcommand)]
    Domain(Domain),
    /// Let nobody log in to an account; its password comes back with `enable`
    Disable(OneUser),
    /// Take back `disable`
    Enable(OneUser),
}

/// `staffetta auth`
#[derive(Debug, Subcommand)]
pub(crate) enum Auth {
    /// Try a login and its password, read from the terminal or standard input, and tell why it is refused
    Test(Trial),
}

/// `staffetta auth test`
#[derive(Debug, Args)]
pub(crate) struct Trial {
    /// The login, as a client would say it
    pub(crate) login: String,
    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// One account.
#[derive(Debug, Args)]
pub(crate) struct OneUser {
    /// The account's address, which is its login
    pub(crate) email: String,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// An account and how its password is stored.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// What the password is stored under [default: SCRAM-SHA-256 if auth.mechanisms offers that, else ARGON2ID]
    #[arg(long)]
    pub(crate) scheme: Option<String>,
    #[command(flatten)]
    pub(crate) user: OneUser,
}

/// `staffetta user list`
#[derive(Debug, Args)]
pub(crate) struct Users {
    /// Write one JSON array
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta user domain`
#[derive(Debug, Subcommand)]
pub(crate) enum Domain {
    /// List the domains, with the number of their accounts and aliases
    List(Users),
    /// Add a domain that nobody is in yet: all its mail is refused until there is somebody
    Add(OneDomain),
    /// Give up a domain without accounts and aliases
    Remove(OneDomain),
}

/// One domain.
#[derive(Debug, Args)]
pub(crate) struct OneDomain {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// `staffetta user show`
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) user: OneUser,
}

/// `staffetta user alias`
#[derive(Debug, Args)]
pub(crate) struct Alias {
    /// Where mail goes: the address of an account, of another alias, or one elsewhere
    pub(crate) email: String,
    /// The address that leads there; @domain for whoever is not there otherwise
    pub(crate) alias: String,
    /// Take the alias away
    #[arg(long)]
    pub(crate) remove: bool,
    /// Make the alias' domain ours: whoever has neither account nor alias there is refused
    #[arg(long, conflicts_with = "remove")]
    pub(crate) new_domain: bool,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}
