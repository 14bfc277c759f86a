//! Where the policies of domains and the tokens of logins are kept for the cluster: in Redis. While that is away each pod has
//! its own.

use std::time::Duration;

use staffetta_queue::{Error, KeptPolicies, KeptTokens};
use staffetta_transport::{sts, token};

/// See [`sts::Shelf`] and [`token::Shelf`].
pub(crate) struct InRedis<T>(pub(crate) T);

impl sts::Shelf for InRedis<KeptPolicies> {
    fn recall(&self, domain: &str) -> sts::Later<Option<(String, Duration)>> {
        let (policies, domain) = (self.0.clone(), domain.to_owned());
        Box::pin(async move {
            match policies.recall(&domain).await {
                Ok(kept) => kept.map(|kept| (kept.text, kept.left)),
                Err(error) => {
                    tracing::debug!(domain, %error, "failed to recall an MTA-STS policy");
                    None
                }
            }
        })
    }

    fn keep(&self, domain: &str, text: String, life: Duration) -> sts::Later<()> {
        let (policies, domain) = (self.0.clone(), domain.to_owned());
        Box::pin(async move {
            if let Err(error) = policies.keep(&domain, &text, life).await {
                tracing::debug!(domain, %error, "failed to keep an MTA-STS policy");
            }
        })
    }
}

impl token::Shelf for InRedis<KeptTokens> {
    fn look(&self, name: &str) -> token::Later<token::Kept> {
        self.ask(name, |tokens, name| async move {
            let kept = tokens.look(&name).await?;
            Ok(token::Kept {
                token: kept.token.map(|(sealed, left)| (sealed.to_vec(), left)),
                refresh: kept.refresh.map(|sealed| sealed.to_vec()),
                rest: kept.rest,
            })
        })
    }

    fn lease(&self, name: &str, life: Duration) -> token::Later<bool> {
        self.ask(name, move |tokens, name| async move { tokens.lease(&name, life).await })
    }

    fn let_go(&self, name: &str) -> token::Later<()> {
        self.ask(name, |tokens, name| async move { tokens.let_go(&name).await })
    }

    fn keep(&self, name: &str, token: Option<(Vec<u8>, Duration)>, refresh: Option<Vec<u8>>) -> token::Later<()> {
        self.ask(name, move |tokens, name| async move {
            let token = token.as_ref().map(|(sealed, life)| (&sealed[..], *life));
            tokens.keep(&name, token, refresh.as_deref()).await
        })
    }

    fn rest(&self, name: &str, text: String, life: Duration) -> token::Later<()> {
        self.ask(name, move |tokens, name| async move { tokens.rest(&name, &text, life).await })
    }

    fn refuse(&self, name: &str, every: Duration) -> token::Later<bool> {
        self.ask(name, move |tokens, name| async move { tokens.refuse(&name, every).await })
    }
}

impl InRedis<KeptTokens> {
    fn ask<T, F>(&self, name: &str, question: impl FnOnce(KeptTokens, String) -> F) -> token::Later<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let answer = question(self.0.clone(), name.to_owned());
        Box::pin(async move {
            answer.await.inspect_err(|error| tracing::debug!(%error, "failed to ask Redis about a token")).ok()
        })
    }
}
