use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use staffetta_config::Config;
use staffetta_smtp::client::Secret;
use staffetta_testkit::tokens::Provider;

use super::*;

const GRANTED: &str = r#"{"access_token":"token-{n}","token_type":"Bearer","expires_in":3600}"#;
const REFUSAL: &str = r#"{"error":"invalid_grant"}"#;

/// What several pods share, without an end of time.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kept: HashMap<String, Kept>,
    leased: bool,
    refused: bool,
    away: bool,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unless it is away.
    fn tell<T: Send + 'static>(&self, name: &str, act: impl FnOnce(&mut State, &mut Kept) -> T) -> Later<T> {
        let mut state = self.state();
        let mut kept = state.kept.remove(name).unwrap_or_default();
        let answer = (!state.away).then(|| act(&mut state, &mut kept));
        state.kept.insert(name.to_owned(), kept);
        Box::pin(async move { answer })
    }
}

impl Shelf for Memory {
    fn look(&self, name: &str) -> Later<Kept> {
        self.tell(name, |_, kept| kept.clone())
    }

    fn lease(&self, name: &str, _: Duration) -> Later<bool> {
        self.tell(name, |state, _| !std::mem::replace(&mut state.leased, true))
    }

    fn let_go(&self, name: &str) -> Later<()> {
        self.tell(name, |state, _| state.leased = false)
    }

    fn keep(&self, name: &str, token: Option<(Vec<u8>, Duration)>, refresh: Option<Vec<u8>>) -> Later<()> {
        self.tell(name, |state, kept| {
            state.leased = false;
            *kept = Kept { token, refresh, rest: None };
        })
    }

    fn rest(&self, name: &str, text: String, life: Duration) -> Later<()> {
        self.tell(name, |state, kept| {
            state.leased = false;
            kept.rest = Some((text, life));
        })
    }

    fn refuse(&self, name: &str, _: Duration) -> Later<bool> {
        self.tell(name, |state, kept| {
            let first = !std::mem::replace(&mut state.refused, true);
            kept.token.take_if(|_| first);
            first
        })
    }
}

struct Scene {
    provider: Provider,
    memory: Memory,
    accounts: [Arc<Account>; 2],
}

impl Scene {
    /// Two pods with the same configuration.
    async fn set() -> Self {
        crate::tls::install_provider();
        let provider = Provider::start_in_clear(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        provider.answer("/token", "200 OK", GRANTED);
        let text = format!(
            "hostname = \"mail.test\"\n[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://smart.test\"\n\
             username = \"john\"\ntoken_url = \"http://{}/token\"\nclient_id = \"relay\"\nrefresh_token = \"rt\"\n",
            provider.address()
        );
        let config = Config::parse(&text, "test.toml").unwrap();
        let account = || Arc::new(Account::of(&config.delivery.route[0]).unwrap());
        Self { provider, memory: Memory::default(), accounts: [account(), account()] }
    }

    fn tokens(&self) -> Tokens {
        Tokens::new(TlsClient::new(None).unwrap(), Box::new(self.memory.clone()))
    }

    /// The refresh tokens of the questions so far.
    fn asked_with(&self) -> Vec<String> {
        let asked = self.provider.asked().into_iter();
        asked.map(|asked| asked.body.split(['=', '&']).nth(3).unwrap_or_default().to_owned()).collect()
    }
}

fn token(shown: &Credentials) -> &str {
    match &shown.secret {
        Secret::Token(token) => token,
        Secret::Password(_) => panic!("no token"),
    }
}

#[tokio::test]
async fn all_that_want_a_token_at_the_same_time_share_one_question() {
    let scene = Scene::set().await;
    let (here, there) = (scene.tokens(), scene.tokens());
    let asks = (0..20)
        .map(|n| if n % 2 == 0 { here.credentials(&scene.accounts[0]) } else { there.credentials(&scene.accounts[1]) });
    for shown in futures_util::future::join_all(asks).await {
        let shown = shown.unwrap();
        assert_eq!((token(&shown), &*shown.username), ("token-1", "john"));
    }
    assert_eq!(scene.provider.asked().len(), 1);
    assert!(!scene.memory.state().leased);
}

#[tokio::test]
async fn whoever_cannot_see_what_the_cluster_has_asks_for_himself_and_not_on_and_on() {
    let scene = Scene::set().await;
    scene.memory.state().away = true;
    for (pod, expected) in [(0, "token-1"), (1, "token-2"), (1, "token-2")] {
        assert_eq!(token(&scene.tokens().credentials(&scene.accounts[pod]).await.unwrap()), expected);
    }
    let lonely = Scene::set().await;
    lonely.memory.state().away = true;
    lonely.provider.answer("/token", "503 Service Unavailable", "");
    for expected in ["the web server says 503", "not asked for again yet after: the web server says 503"] {
        let error = lonely.tokens().credentials(&lonely.accounts[0]).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(lonely.provider.asked().len(), 1);
}

#[tokio::test]
async fn a_failure_keeps_all_pods_from_asking_for_a_while_that_grows() {
    let scene = Scene::set().await;
    scene.provider.answer("/token", "400 Bad Request", REFUSAL);
    let name = scene.accounts[0].name().to_owned();
    for (asked, life) in [(1, 10), (2, 20), (3, 40)] {
        let error = scene.tokens().credentials(&scene.accounts[0]).await.unwrap_err().to_string();
        assert_eq!(error, "refused: invalid_grant");
        let error = scene.tokens().credentials(&scene.accounts[1]).await.unwrap_err().to_string();
        assert_eq!(error, "not asked for again yet after: refused: invalid_grant");
        assert_eq!(scene.provider.asked().len(), asked);
        let mut state = scene.memory.state();
        let (_, left) = state.kept.get_mut(&name).unwrap().rest.as_mut().unwrap();
        assert_eq!(*left, Duration::from_secs(life));
        // Its time is over, and it is still known.
        *left /= 2;
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_replaced_once_and_what_others_have_meanwhile_is_taken() {
    let scene = Scene::set().await;
    let (here, there) = (scene.tokens(), scene.tokens());
    let [one, two] = &scene.accounts;
    let (first, same) = (here.credentials(one).await.unwrap(), there.credentials(two).await.unwrap());
    let another = here.instead_of(one, first.clone()).await.unwrap();
    assert_eq!((token(&first), token(&same), token(&another)), ("token-1", "token-1", "token-2"));
    assert_eq!(token(&there.instead_of(two, same).await.unwrap()), "token-2");
    for (pod, account) in [(&here, one), (&there, two)] {
        let error = pod.instead_of(account, another.clone()).await.unwrap_err().to_string();
        assert!(error.starts_with("the server refuses what it was shown"), "{error}");
    }
    assert_eq!(scene.provider.asked().len(), 2);
    assert!(!scene.memory.state().leased);
}

#[tokio::test]
async fn a_token_is_renewed_beside_the_mail_before_it_ends() {
    let scene = Scene::set().await;
    let tokens = scene.tokens();
    let [account, _] = &scene.accounts;
    assert_eq!(token(&tokens.credentials(account).await.unwrap()), "token-1");
    let hour = Duration::from_secs(3600);
    let (now, usable) = (Instant::now(), hour - Duration::from_secs(60));
    let held = |later| account.held(&Want::Any, now + later).is_some();
    assert!(held(usable - Duration::from_secs(1)) && !held(usable + Duration::from_secs(1)));
    let fresh = |later| account.held(&Want::Fresh, now + later).is_some();
    assert!(fresh(usable - Duration::from_secs(301)) && !fresh(usable - Duration::from_secs(299)));
    let soon = now + usable - Duration::from_secs(10);
    assert!(!account.begins_renewal(now) && account.begins_renewal(soon));
    assert!(!account.begins_renewal(soon), "one is enough");
    // What is kept is near its end, too.
    let kept = scene.memory.state().kept[account.name()].clone();
    let old = account.kept(&kept.token.clone().unwrap().0, Duration::from_secs(10), now).unwrap();
    account.hold(old);
    scene.memory.state().kept.get_mut(account.name()).unwrap().token.as_mut().unwrap().1 = Duration::from_secs(10);
    assert_eq!(token(&tokens.credentials(account).await.unwrap()), "token-1", "it still holds");
    while account.held(&Want::Fresh, Instant::now()).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(token(&tokens.credentials(account).await.unwrap()), "token-2");
    assert_eq!(scene.provider.asked().len(), 2);
}

#[tokio::test]
async fn a_refresh_token_that_is_over_gives_way_to_the_configured_one() {
    let scene = Scene::set().await;
    let exchanged = r#"{"access_token":"t","token_type":"Bearer","refresh_token":"newer"}"#;
    scene.provider.answer("/token", "200 OK", exchanged);
    let [account, _] = &scene.accounts;
    assert!(scene.tokens().try_now(account).await.is_ok());
    assert!(scene.tokens().try_now(account).await.is_ok());
    assert_eq!(scene.asked_with(), ["rt", "newer"]);
    scene.provider.answer("/token", "400 Bad Request", REFUSAL);
    assert!(scene.tokens().try_now(account).await.is_err());
    assert_eq!(scene.asked_with()[2..], ["newer", "rt"]);
    // One without another leaves the one that was used.
    scene.provider.answer("/token", "200 OK", GRANTED);
    assert!(scene.tokens().try_now(account).await.is_ok());
    assert!(scene.tokens().try_now(account).await.is_ok());
    assert_eq!(scene.asked_with()[4..], ["newer", "newer"]);
}

#[tokio::test]
async fn neither_secrets_nor_tokens_are_printed() {
    let scene = Scene::set().await;
    let shown = scene.tokens().credentials(&scene.accounts[0]).await.unwrap();
    let printed = format!("{:?} {shown:?}", scene.accounts[0]);
    assert!(printed.contains("john") && !printed.contains("token-1") && !printed.contains("rt"), "{printed}");
}
