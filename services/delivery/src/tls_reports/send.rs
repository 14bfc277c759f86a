//! One report after the other, to whoever the domain names: the first that takes it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use jiff::Timestamp;
use staffetta_config::{Config, Rate, WebUrl};
use staffetta_mail::tls_report::{Destination, Letter, Outcome, Report, letter};
use staffetta_mail::{Address, Envelope, Notify, Recipient, ReversePath};
use staffetta_queue::{Accept, Origin, TlsPeriod};
use staffetta_transport::https::post;

use super::{TlsReports, wishes};
use crate::worker::Worker;

/// For a web server, in all, and for one of its addresses.
const WEB: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// Reports of one period to one address, or one web server.
const ONE_ADDRESS: u32 = 1_000;
/// For a report, whoever is to get it.
const REPORT: Duration = Duration::from_secs(45);
/// Reports of this worker that are sent at a time.
const AT_ONCE: usize = 4;
/// Periods after its end in which a report is tried.
const TRIED: u64 = 2;

/// In whose name reports are written.
pub(super) struct Writer {
    from: Address,
    /// Its domain, which signs.
    domain: String,
    organization: String,
    hostname: String,
}

impl Writer {
    /// None: the configuration asks for no reports.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let settings = &config.delivery.tls_report;
        let from = settings.from.clone()?;
        let domain = from.domain_key()?;
        let organization = settings.organization.clone().unwrap_or_else(|| domain.clone());
        Some(Self { from, domain, organization, hostname: config.hostname.clone() })
    }

    /// Of the address that they come from.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }
}

impl TlsReports {
    /// Sends all that are due.
    pub(super) async fn send_all(&self, worker: &Worker) {
        join_all((0..AT_ONCE).map(|_| self.send_one_by_one(worker))).await;
    }

    /// One that cannot be sent now is due again when its lease ends, and given up in the end.
    async fn send_one_by_one(&self, worker: &Worker) {
        let lease = (self.period / 24).max(Duration::from_secs(1));
        loop {
            let period = match self.counts.claim(lease).await {
                Ok(Some(period)) => period,
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "failed to look for TLS reports"),
            };
            let domain = &*period.domain;
            let sent = tokio::time::timeout(REPORT, self.send(worker, &period)).await;
            let sent = sent.context("nobody took it in time").flatten();
            match sent {
                Ok(true) => worker.metrics.tls_report(true),
                Ok(false) => {}
                Err(error) => {
                    worker.metrics.tls_report(false);
                    tracing::info!(domain, error = format!("{error:#}"), "failed to send a TLS report");
                    let length = period.end.saturating_sub(period.start);
                    if worker.queue.now() < period.end.saturating_add(length.saturating_mul(TRIED)) {
                        continue;
                    }
                    tracing::warn!(domain, "a TLS report is given up");
                }
            }
            if let Err(error) = self.counts.forget(&period).await {
                tracing::debug!(domain, %error, "a TLS report may be sent twice");
            }
        }
    }

    /// False: nobody wants it any more, or there is nothing to tell.
    async fn send(&self, worker: &Worker, period: &TlsPeriod) -> anyhow::Result<bool> {
        let wishes = wishes(worker, &period.domain).await?;
        let counts = self.counts.read(period).await?;
        if wishes.is_empty() || counts.is_empty() {
            return Ok(false);
        }
        let id = format!("{}.{}@{}", period.start, period.domain, self.writer.domain);
        let time = |millis: u64| Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(i64::MAX));
        let mut outcomes: Vec<(Outcome, u64)> =
            counts.into_iter().filter_map(|(text, count)| Some((Outcome::from_text(&text)?, count))).collect();
        outcomes.sort();
        let contact = self.writer.from.to_string();
        let report = Report {
            domain: &period.domain,
            organization: &self.writer.organization,
            contact: &contact,
            submitter: &self.writer.domain,
            id: &id,
            // The last second is told, not the first of the next period.
            period: (time(period.start)?, time(period.end.saturating_sub(1_000))?),
            outcomes,
        };
        let file = compressed(&report.to_json())?;
        let mut last = None;
        for wish in wishes {
            let sent = match &wish {
                _ if !self.may_have_one_more(worker, &wish).await => Err(anyhow!("its address has had too many")),
                Destination::Mail(to) => self.mail(worker, &report, to, &file).await,
                Destination::Web(url) => self.post(worker, url, &file).await,
            };
            match sent {
                Ok(()) => {
                    let what = if matches!(wish, Destination::Mail(_)) { "queued" } else { "posted" };
                    tracing::info!(domain = &*period.domain, to = %wish, "a TLS report is {what}");
                    return Ok(true);
                }
                Err(error) => last = Some(error.context(wish.to_string())),
            }
        }
        last.map_or(Ok(false), Err)
    }

    /// Whoever has many domains, or names of domains, could aim them all at one address that never asked for it.
    async fn may_have_one_more(&self, worker: &Worker, wish: &Destination) -> bool {
        let who = match wish {
            Destination::Mail(to) => to.to_string(),
            Destination::Web(url) => WebUrl::https(url).map(|url| url.authority()).unwrap_or_default(),
        };
        let limiter = worker.queue.limiter("tls-report", Rate { count: ONE_ADDRESS, per: self.period });
        limiter.acquire(&who, 1).await.is_ok_and(|answer| answer.tokens > 0)
    }

    /// Puts it into the queue, as mail of ours: signed for the domain of its author, and bounced to nobody.
    async fn mail(&self, worker: &Worker, report: &Report<'_>, to: &Address, file: &[u8]) -> anyhow::Result<()> {
        let now = Timestamp::from_millisecond(i64::try_from(worker.queue.now()).unwrap_or(i64::MAX))?;
        let message = letter(report, Letter { from: &self.writer.from, to, now, attachment: file });
        let mut recipient = Recipient::new(to.clone());
        recipient.notify = Some(Notify { success: false, failure: false, delay: false });
        let envelope = Envelope {
            tls_optional: true,
            ..Envelope::new(ReversePath::Address(self.writer.from.clone()), vec![recipient])
        };
        let helo = self.writer.hostname.clone();
        let origin = Origin { listener: "tls-report".to_owned(), client: None, helo, login: None, span: None };
        let mut incoming = worker.queue.receive()?;
        incoming.write(&message).await?;
        let lifetime = worker.terms.load().lifetime;
        incoming.commit(Accept { envelope, origin, lifetime }, b"").await?;
        Ok(())
    }

    /// Section 5.4.
    async fn post(&self, worker: &Worker, url: &str, file: &[u8]) -> anyhow::Result<()> {
        let url = WebUrl::https(url).context("the address cannot be used")?;
        let exchange = async {
            let addresses = worker.planner.web_server(&url.host, url.port).await?;
            let content = ("application/tlsrpt+gzip", file.to_vec());
            anyhow::Ok(post(&worker.tls, &url, addresses, CONNECT, content).await?)
        };
        let status = tokio::time::timeout(WEB, exchange).await.context("no answer in time")??;
        ensure!(status.is_success(), "the web server says {status}");
        Ok(())
    }
}

fn compressed(json: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json)?;
    Ok(encoder.finish()?)
}
