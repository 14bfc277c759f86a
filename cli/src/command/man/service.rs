//! The page of a service: its command line as clap has it, and what it does with signals, files and its environment.

use std::io;

use clap_mangen::Man;
use staffetta_config::Service;
use staffetta_transport::launch;

use super::roff;

/// What all of them have.
const COMMON: &str = "\
## CONFIGURATION

What it may and must be told stands in **staffetta.toml**(5). `staffetta check` tries a file without starting anything. A changed file is taken over within ten
seconds, and so are certificates and keys; what takes effect after a restart only is named in a warning. A file with a mistake changes nothing.

## SIGNALS

- `SIGTERM`, `SIGINT`: ends it in order, as above.
- `SIGHUP`: reads the configuration again, now.

## ENVIRONMENT

- `STAFFETTA_CONFIG`: the configuration file.
- `STAFFETTA__TABLE__KEY`: in the place of a key of the file, as in `STAFFETTA__REDIS__URL`.
- `TOKIO_WORKER_THREADS`: how many threads do the work; without it one for each CPU.

## EXIT STATUS

- `0`: it was told to end, and has.
- `1`: it could not start, or go on; standard error says why.
- `2`: the command line is wrong.

";

/// Its name, and its page.
pub(super) fn page(service: Service) -> io::Result<(String, String)> {
    let command = launch::command(service);
    let name = command.get_name().to_owned();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = roff::title(&name, "8", &about).into_bytes();
    let man = Man::new(command);
    man.render_synopsis_section(&mut page)?;
    page.extend(roff::from_markdown(description(service)).into_bytes());
    man.render_options_section(&mut page)?;
    page.extend(roff::from_markdown(&format!("{COMMON}{}", see_also(&name))).into_bytes());
    Ok((name, String::from_utf8_lossy(&page).into_owned()))
}

/// What it does, and how it ends.
const fn description(service: Service) -> &'static str {
    match service {
        Service::Frontend => {
            "\
## DESCRIPTION

It listens where `frontend.listener` says, on ports 25, 587 and 465 if that says nothing, asks **staffetta-auth**(8) who somebody is and what he may send, and puts what it
accepts into the queue in Redis. Its `250` to the content means that the message is as durable as `redis.durability` says.

When it is told to end, it says so at `/readyz`, takes connections for `frontend.drain_delay` more, lets messages that are on their way come to their end, and answers
everything else with `421`.

"
        }
        Service::Auth => {
            "\
## DESCRIPTION

It answers the frontends, over gRPC at `auth.listen`: whether a login and a password, a proof of SCRAM or a token are right, which addresses a login may send as, and which domains
and recipients are ours. It knows that from a SQL database or from Dovecot.

When it is told to end, it says so at `/readyz`, answers for `auth.drain_delay` more, and ends what has begun.

"
        }
        _ => {
            "\
## DESCRIPTION

It takes what is due in the queue in Redis and brings it to the mail hosts of its destination, to a smart host or a server of LMTP, as `delivery.route` says; it tries again what could not
be delivered, and reports to the sender what never will be. Any number of them share the work. What one of them had at hand when it died, another takes over.

When it is told to end, it takes no more and gives what is on its way up to `delivery.drain_limit`; the rest goes back into the queue.

"
        }
    }
}

fn see_also(name: &str) -> String {
    let others = SERVICES.iter().filter(|other| **other != name).map(|other| format!(", **{other}**(8)"));
    format!(
        "## SEE ALSO\n\n**staffetta**(1), **staffetta-check**(1), **staffetta.toml**(5){}\n",
        others.collect::<String>()
    )
}

const SERVICES: [&str; 3] = ["staffetta-frontend", "staffetta-auth", "staffetta-delivery"];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_service_says_what_it_takes_and_how_it_ends() {
        for service in super::super::SERVICES {
            let (name, page) = page(service).unwrap();
            for words in
                [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", "config", "SIGTERM", "drain", "EXIT STATUS"]
            {
                assert!(page.contains(words), "{name}: {words}\n{page}");
            }
            assert_eq!(page.matches("(8)").count(), if name == "staffetta-frontend" { 3 } else { 2 }, "{page}");
        }
    }
}
