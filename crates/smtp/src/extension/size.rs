//! SIZE (RFC 1870): the limit is told before the transfer, and so is the size. `SIZE 0` would mean "no limit"; Postfix
//! says plain `SIZE` then, and so do we.

use super::{Extension, Offer, Verdict};
use crate::Reply;
use crate::standing::{MailParameters, Standing};

pub(super) const EXTENSION: Extension = Extension { keyword: "SIZE", offer, mail: &[("SIZE", size)], rcpt: &[] };

fn offer(standing: &Standing<'_>) -> Offer {
    match standing.settings.size_limit {
        0 => Offer::Plain,
        limit => Offer::With(limit.to_string()),
    }
}

fn size(standing: &Standing<'_>, value: &str, parameters: &mut MailParameters) -> Result<(), Verdict> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Reply::bad_size().into());
    }
    // What does not fit into an off_t is larger than any file.
    let size = value.parse().ok().filter(|&size| i64::try_from(size).is_ok());
    let size: u64 = size.ok_or_else(Reply::size_beyond_file_system)?;
    let limit = standing.settings.size_limit;
    if limit != 0 && size > limit {
        return Err(Reply::size_exceeds_limit().into());
    }
    parameters.size = Some(size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mail_parameters;
    use super::*;
    use crate::standing::Settings;
    use crate::standing::tests::standing;

    #[test]
    fn rfc1870_6_the_parameter() {
        let (limited, unlimited) =
            (Settings { size_limit: 1000, ..Settings::default() }, Settings { size_limit: 0, ..Settings::default() });
        for (settings, text, outcome) in [
            (&limited, "SIZE=0", Ok(Some(0))),
            (&limited, "SIZE=1000", Ok(Some(1000))),
            (&limited, "SIZE=1001", Err(Reply::size_exceeds_limit())),
            (&limited, "SIZE=9223372036854775807", Err(Reply::size_exceeds_limit())),
            (&limited, "SIZE=9223372036854775808", Err(Reply::size_beyond_file_system())),
            (&limited, "SIZE=99999999999999999999", Err(Reply::size_beyond_file_system())),
            (&limited, "SIZE", Err(Reply::bad_size())),
            (&limited, "SIZE=", Err(Reply::bad_size())),
            (&limited, "SIZE=-1", Err(Reply::bad_size())),
            (&limited, "SIZE=+1", Err(Reply::bad_size())),
            (&limited, "SIZE=1k", Err(Reply::bad_size())),
            (&limited, "SIZE=1 SIZE=1", Err(Reply::repeated_parameter("SIZE"))),
            (&unlimited, "SIZE=9223372036854775807", Ok(Some(i64::MAX as u64))),
        ] {
            let taken = mail_parameters(&standing(settings), text).map(|parameters| parameters.size);
            assert_eq!(taken, outcome, "{text}");
        }
    }
}
