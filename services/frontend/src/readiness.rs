//! May this pod take mail now? What `/readyz` says.

use staffetta_queue::{Health, Queue, Revocations};
use staffetta_telemetry::{Readiness, Standing};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;

/// Redis, and the auth service if any listener can ask it anything.
pub(crate) fn readiness(
    queue: Queue,
    revocations: Revocations,
    auth: Option<Auth>,
    draining: CancellationToken,
) -> Readiness {
    let readiness = Readiness::new(draining).needs("redis", move || redis(&queue, &revocations));
    match auth {
        Some(auth) => readiness.needs("auth", move || reachable(&auth)),
        None => readiness,
    }
}

fn redis(queue: &Queue, revocations: &Revocations) -> Standing {
    match queue.health() {
        Health::Down(reason) => Standing::Away(format!("the queue is not writable: {reason}")),
        _ if !revocations.is_current() => Standing::Away("Redis does not say who is blocked".to_owned()),
        Health::Full => Standing::Limited("the queue is full".to_owned()),
        Health::Ready => Standing::Up,
    }
}

fn reachable(auth: &Auth) -> Standing {
    if auth.is_reachable() { Standing::Up } else { Standing::Away("the auth service is not reachable".to_owned()) }
}
