//! What the log of the process holds, and what it must never hold.

use crate::client::Client;
use crate::world::World;
use crate::{AUTH, WRONG};

/// The most that can be switched on, in both formats.
const LOGS: [&str; 2] = ["format = \"json\"\nlevel = \"trace\"", "format = \"postfix\"\nlevel = \"trace\""];
/// John's password, and what AUTH says of it in base64.
const SECRETS: [&str; 3] = ["summersun", "AHN1bW1lcnN1bg", "c3VtbWVyc3Vu"];

/// An initial response is a password. No refusal may write it down: not for a service that is away, not for a limit.
#[tokio::test]
async fn no_password_is_in_the_log_when_a_login_is_refused() {
    for log in LOGS {
        let strangers = "trusted_networks = []\nauth_failures_per_client = \"1/1h\"";
        let mut world = World::start_process(strangers, log).await;
        world.auth_service.0.cancel();
        (&mut world.auth_service.1).await.unwrap();
        world.until_away().await;
        let mut client = Client::encrypted(world.submission, &world.ca).await;
        client.expect(&[(AUTH, "454 4.7.0 ")]).await;
        world.auth_service = crate::auth::start(world.auth, None);
        world.until_ready().await;
        client.expect(&[(WRONG, "535 "), (AUTH, "421 4.7.0 ")]).await;

        let written = world.log_with("too many authentication failures").await;
        assert!(written.contains("Temporary authentication failure"), "{written}");
        for secret in SECRETS {
            assert!(!written.contains(secret), "{secret}: {written}");
        }
    }
}

/// Whoever can put a line end into the log can forge what others read in it.
#[tokio::test]
async fn a_user_name_with_a_line_end_stays_within_its_record() {
    // \0john\r\nforged: line\0x
    let name = "AUTH PLAIN AGpvaG4NCmZvcmdlZDogbGluZQB4";
    for log in LOGS {
        let world = World::start_process("trusted_networks = []", log).await;
        let mut client = Client::encrypted(world.submission, &world.ca).await;
        client.expect(&[(name, "535 5.7.8 ")]).await;
        let written = world.log_with("forged: line").await;
        let line = written.lines().find(|line| line.contains("forged: line")).unwrap();
        assert!(line.contains("john") && line.contains("535"), "{line}");
    }
}
