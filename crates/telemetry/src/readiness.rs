//! May this process take work? What `/readyz` says, and `staffetta_dependency_up`.
//!
//! A dependency has to be reached once: before that the configuration may be wrong, and a rollout has to stop there.
//! One that goes away later takes no pod out of the load balancer, because it goes away for all pods at once, and a
//! client that is asked to come back is better off than one whose connection is refused. A drain is final.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use metrics::{Gauge, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

const UP: &str = "staffetta_dependency_up";

/// How a dependency is; the texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it is asked.
    Up,
    /// It answers and cannot do all: a queue that is full. It counts as reached.
    Limited(String),
    /// It does not answer, or must not be used.
    Away(String),
}

/// What readiness depends on. The ports are open before it is first asked.
pub struct Readiness {
    dependencies: Vec<Dependency>,
    draining: CancellationToken,
}

struct Dependency {
    ask: Box<dyn Fn() -> Standing + Send + Sync>,
    reached: AtomicBool,
    up: Gauge,
}

impl Readiness {
    /// Ready until `draining` is cancelled.
    pub fn new(draining: CancellationToken) -> Self {
        describe_gauge!(UP, "1 while the dependency does what it is asked, at the time of the scrape.");
        Self { dependencies: Vec::new(), draining }
    }

    /// Needs this as well; `ask` says at once how it is. `name` is the label of the gauge.
    #[must_use]
    pub fn needs(mut self, name: &'static str, ask: impl Fn() -> Standing + Send + Sync + 'static) -> Self {
        let up = gauge!(UP, "dependency" => name);
        self.dependencies.push(Dependency { ask: Box::new(ask), reached: AtomicBool::new(false), up });
        self
    }

    /// `Ok` takes work; its text, if any, says what that work will miss.
    ///
    /// # Errors
    /// Why no work may come: a drain, or what was not reached since the start.
    pub fn check(&self) -> Result<Option<String>, String> {
        let (mut missing, mut never) = (Vec::new(), false);
        for dependency in &self.dependencies {
            let (reason, reached) = dependency.look();
            never |= !reached;
            missing.extend(reason);
        }
        if self.draining.is_cancelled() {
            return Err("draining".to_owned());
        }
        let missing = missing.join("; ");
        if never { Err(missing) } else { Ok((!missing.is_empty()).then_some(missing)) }
    }
}

impl Dependency {
    /// What it lacks, and whether it was ever reached.
    fn look(&self) -> (Option<String>, bool) {
        let standing = (self.ask)();
        self.up.set(if standing == Standing::Up { 1.0 } else { 0.0 });
        match standing {
            Standing::Up => (None, self.reach()),
            Standing::Limited(reason) => (Some(reason), self.reach()),
            Standing::Away(reason) => (Some(reason), self.reached.load(Relaxed)),
        }
    }

    fn reach(&self) -> bool {
        self.reached.store(true, Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    type Knob = Arc<Mutex<Standing>>;

    fn away(reason: &str) -> Standing {
        Standing::Away(reason.to_owned())
    }

    fn readiness() -> (Readiness, [Knob; 2], CancellationToken) {
        let knobs = [(); 2].map(|()| Arc::new(Mutex::new(away("not asked yet"))));
        let draining = CancellationToken::new();
        let ask = |knob: &Knob| {
            let knob = knob.clone();
            move || knob.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let [redis, auth] = &knobs;
        (Readiness::new(draining.clone()).needs("redis", ask(redis)).needs("auth", ask(auth)), knobs, draining)
    }

    fn set(knob: &Knob, standing: Standing) {
        *knob.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    #[test]
    fn each_dependency_has_to_be_reached_once_and_may_go_away_after_that() {
        let (readiness, [redis, auth], _) = readiness();
        set(&redis, Standing::Up);
        assert_eq!(readiness.check(), Err("not asked yet".to_owned()), "auth");
        set(&redis, away("Redis is away"));
        set(&auth, Standing::Up);
        assert_eq!(readiness.check(), Ok(Some("Redis is away".to_owned())), "not at the same time");
        set(&auth, away("auth is away"));
        assert_eq!(readiness.check(), Ok(Some("Redis is away; auth is away".to_owned())));
        set(&redis, Standing::Up);
        set(&auth, Standing::Up);
        assert_eq!(readiness.check(), Ok(None));
    }

    #[test]
    fn what_cannot_do_all_is_there() {
        let (readiness, [redis, auth], _) = readiness();
        set(&redis, Standing::Limited("full".to_owned()));
        set(&auth, Standing::Up);
        assert_eq!(readiness.check(), Ok(Some("full".to_owned())));
    }

    #[test]
    fn a_drain_is_final() {
        let (readiness, [redis, auth], draining) = readiness();
        set(&redis, Standing::Up);
        set(&auth, Standing::Up);
        assert_eq!(readiness.check(), Ok(None));
        draining.cancel();
        assert_eq!(readiness.check(), Err("draining".to_owned()));
    }
}
