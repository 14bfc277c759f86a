//! Who calls: the user of this process, by the table of this machine.

use std::path::Path;

use staffetta_config::read_file;

const USERS: &str = "/etc/passwd";

/// The user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) uid: u32,
    /// `john`; its number if nobody knows its name.
    pub(super) login: String,
    /// `John Doe`, if the table has it.
    pub(super) name: Option<String>,
}

impl Person {
    /// The real user of this process.
    pub(super) fn of_this_process() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let table = read_file(Path::new(USERS)).unwrap_or_default();
        Self::find(uid, &String::from_utf8_lossy(&table))
    }

    fn find(uid: u32, table: &str) -> Self {
        let number = uid.to_string();
        let mut rows = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let row = rows.find(|row| row.get(2) == Some(&number.as_str()));
        let login = row.as_ref().and_then(|row| row.first()).map_or_else(|| number.clone(), |&login| login.to_owned());
        // Room and telephone follow behind a comma; & is the login.
        let name = row.and_then(|row| row.get(4)?.split(',').next().map(|name| name.trim().replace('&', &login)));
        Self { uid, login, name: name.filter(|name| !name.is_empty() && !name.chars().any(char::is_control)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_number() {
        let table = "root:x:0:0:root:/root:/bin/bash\nbroken\njohn:x:1000:1000:John Doe,Room 1,,:/home/john:/bin/sh\nx:x:7:7::/:\n";
        let person = |uid, login: &str, name: Option<&str>| Person {
            uid,
            login: login.to_owned(),
            name: name.map(str::to_owned),
        };
        assert_eq!(Person::find(1000, table), person(1000, "john", Some("John Doe")));
        assert_eq!(Person::find(7, table), person(7, "x", None));
        assert_eq!(Person::find(99, table), person(99, "99", None));
    }
}
