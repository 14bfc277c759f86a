//! Under which keys an address is looked up, in Postfix's order (`mail_addr_find`): as it is, without its `+extension`,
//! `@domain`.
//!
//! Each key that has upper-case letters is followed by its lower-case form: back ends that compare byte by byte usually
//! store that.

/// The keys for an address, most specific first, none twice.
pub(crate) fn keys(address: &str) -> Vec<String> {
    let mut keys = Vec::with_capacity(4);
    add(&mut keys, address);
    let Some((local, domain)) = address.rsplit_once('@') else { return keys };
    if let Some(user) = without_extension(local) {
        add(&mut keys, &format!("{user}@{domain}"));
    }
    add(&mut keys, &format!("@{domain}"));
    keys
}

/// What stands behind `user` in `user+extension@domain`, with its `+`, if the address was found under `key` without it.
pub(crate) fn unmatched<'a>(address: &'a str, key: &str) -> Option<&'a str> {
    let (local, _) = address.rsplit_once('@')?;
    let (found, _) = key.rsplit_once('@')?;
    let user = without_extension(local)?;
    (found.to_lowercase() == user.to_lowercase()).then(|| &local[user.len()..])
}

/// The spellings of a name that is not cut: a login, a domain.
pub(crate) fn spellings(name: &str) -> Vec<String> {
    let mut keys = Vec::with_capacity(2);
    add(&mut keys, name);
    keys
}

fn add(keys: &mut Vec<String>, key: &str) {
    for key in [key.to_owned(), key.to_lowercase()] {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
}

/// `user` of `user+extension`. A quoted local part has none, and neither has one that begins with the `+`.
fn without_extension(local: &str) -> Option<&str> {
    let (user, _) = local.split_once('+')?;
    (!user.is_empty() && !local.starts_with('"')).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_from_the_address_to_its_domain() {
        let rows: [(&str, &[&str]); 7] = [
            ("john@example.org", &["john@example.org", "@example.org"]),
            ("john+news@example.org", &["john+news@example.org", "john@example.org", "@example.org"]),
            ("john+a+b@example.org", &["john+a+b@example.org", "john@example.org", "@example.org"]),
            ("John@Example.org", &["John@Example.org", "john@example.org", "@Example.org", "@example.org"]),
            ("\"a+b\"@example.org", &["\"a+b\"@example.org", "@example.org"]),
            ("+x@example.org", &["+x@example.org", "@example.org"]),
            ("postmaster", &["postmaster"]),
        ];
        for (address, expected) in rows {
            assert_eq!(keys(address), expected, "{address}");
        }
    }

    #[test]
    fn names_are_not_cut() {
        assert_eq!(spellings("John+x"), ["John+x", "john+x"]);
        assert_eq!(spellings("example.org"), ["example.org"]);
        assert_eq!(spellings("JÖRG"), ["JÖRG", "jörg"]);
    }
}
