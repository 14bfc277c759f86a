//! An auth service of one screen: john, lisa and mary, each owning the address that is the login. Lisa has limits of her own;
//! mary need not be asked about twice; of odd nobody can say anything.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use staffetta_proto::auth::v1::auth_service_server::{AuthService, AuthServiceServer};
use staffetta_proto::auth::v1::authenticate_request::Step as Ask;
use staffetta_proto::auth::v1::authenticate_response::{Allowance, Failure, Limits, Reason, Step, Success};
use staffetta_proto::auth::v1::{
    AuthenticateRequest, AuthenticateResponse, CheckSenderRequest, CheckSenderResponse, GetMechanismsRequest,
    GetMechanismsResponse, LookupDomainRequest, LookupDomainResponse, LookupRecipientRequest, LookupRecipientResponse,
};
use staffetta_testkit::certs::Leaf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// Calls at a time on one connection.
pub(crate) const STREAMS: u32 = 8;

/// How long a question about an address that begins with `slow` takes.
pub(crate) const SLOW: Duration = Duration::from_millis(700);

pub(crate) const JOHN: (&str, &str) = ("john@example.org", "summersun");
const LISA: (&str, &str) = ("lisa@example.org", "moonlight");
pub(crate) const MARY: (&str, &str) = ("mary@example.org", "sunrise");

/// A running service: cancel the token, await its end.
pub(crate) type Running = (CancellationToken, tokio::task::JoinHandle<()>);

/// Serves on `address`, with mutual TLS if there is a certificate.
pub(crate) fn start(address: SocketAddr, tls: Option<(&Leaf, &Path)>) -> Running {
    // As before there was a call for it.
    serve(address, tls, None)
}

/// Serves on `address` and says that it has these mechanisms.
pub(crate) fn start_with(address: SocketAddr, mechanisms: &[&str]) -> Running {
    serve(address, None, Some(mechanisms.iter().map(|&name| name.to_owned()).collect()))
}

fn serve(address: SocketAddr, tls: Option<(&Leaf, &Path)>, mechanisms: Option<Vec<String>>) -> Running {
    let tls = tls.map(|(leaf, ca)| {
        let read = |path: &Path| std::fs::read(path).unwrap();
        ServerTlsConfig::new()
            .identity(Identity::from_pem(read(&leaf.certificate), read(&leaf.key)))
            .client_ca_root(Certificate::from_pem(read(ca)))
    });
    let stop = CancellationToken::new();
    let ended = stop.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<AuthServiceServer<Users>>().await;
        let mut server = tonic::transport::Server::builder().max_concurrent_streams(STREAMS);
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        server
            .add_service(health_service)
            .add_service(AuthServiceServer::new(Users { mechanisms }))
            .serve_with_shutdown(address, ended)
            .await
            .unwrap();
    });
    (stop, task)
}

struct Users {
    mechanisms: Option<Vec<String>>,
}

#[tonic::async_trait]
impl AuthService for Users {
    type AuthenticateStream = ReceiverStream<Result<AuthenticateResponse, Status>>;

    async fn authenticate(
        &self,
        request: Request<Streaming<AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            let Ok(Some(AuthenticateRequest { step: Some(Ask::Start(start)) })) = requests.message().await else {
                return;
            };
            let step = match (start.mechanism.as_str(), start.initial_response) {
                ("PLAIN", Some(response)) => plain(&response),
                ("PLAIN", None) => {
                    let _ = responses.send(Ok(response(Step::Challenge(Vec::new())))).await;
                    let Ok(Some(AuthenticateRequest { step: Some(Ask::Response(answer)) })) = requests.message().await
                    else {
                        return;
                    };
                    plain(&answer)
                }
                ("LOGIN", Some(name)) => {
                    let _ = responses.send(Ok(response(Step::Challenge(b"Password:".to_vec())))).await;
                    let Ok(Some(AuthenticateRequest { step: Some(Ask::Response(answer)) })) = requests.message().await
                    else {
                        return;
                    };
                    plain(&[b"\0", &name[..], b"\0", &answer[..]].concat())
                }
                // Two steps, and a proof of the service to which the client says nothing.
                ("SCRAM-SHA-256", Some(first)) if &first[..] == b"hello" => {
                    let mut said = Vec::new();
                    for challenge in ["who?", "it is me"] {
                        let _ = responses.send(Ok(response(Step::Challenge(challenge.into())))).await;
                        match requests.message().await {
                            Ok(Some(AuthenticateRequest { step: Some(Ask::Response(answer)) })) => said.push(answer),
                            _ => return,
                        }
                    }
                    match (&said[0][..], said[1].is_empty()) {
                        (b"john", true) => success(JOHN.0),
                        (name, _) => failure(Reason::Credentials, &String::from_utf8_lossy(name)),
                    }
                }
                // No token is good here, and the client is told so before it fails.
                ("OAUTHBEARER", Some(_)) => {
                    let _ =
                        responses.send(Ok(response(Step::Challenge(b"{\"status\":\"invalid_token\"}".to_vec())))).await;
                    match requests.message().await {
                        Ok(Some(_)) => failure(Reason::Credentials, ""),
                        _ => return,
                    }
                }
                _ => failure(Reason::Mechanism, ""),
            };
            let _ = responses.send(Ok(response(step))).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_mechanisms(
        &self,
        _: Request<GetMechanismsRequest>,
    ) -> Result<Response<GetMechanismsResponse>, Status> {
        let unknown = || Status::unimplemented("an older version");
        let mechanisms = self.mechanisms.clone().ok_or_else(unknown)?;
        Ok(Response::new(GetMechanismsResponse { mechanisms }))
    }

    async fn check_sender(
        &self,
        request: Request<CheckSenderRequest>,
    ) -> Result<Response<CheckSenderResponse>, Status> {
        let request = request.into_inner();
        let known = request.sender.ends_with("@example.org");
        let good_for = good_for(&request.login);
        Ok(Response::new(CheckSenderResponse { owned: request.login == request.sender, known, good_for }))
    }

    async fn lookup_domain(
        &self,
        request: Request<LookupDomainRequest>,
    ) -> Result<Response<LookupDomainResponse>, Status> {
        Ok(Response::new(LookupDomainResponse { known: request.into_inner().domain == "example.org" }))
    }

    async fn lookup_recipient(
        &self,
        request: Request<LookupRecipientRequest>,
    ) -> Result<Response<LookupRecipientResponse>, Status> {
        let recipient = request.into_inner().recipient;
        dawdle(&recipient).await;
        let destinations = members(&recipient);
        let unending = recipient == "round@example.org";
        let exists = recipient == JOHN.0 || recipient.starts_with("slow");
        let known = exists || unending || !destinations.is_empty();
        Ok(Response::new(LookupRecipientResponse { known, destinations, unending }))
    }
}

/// `all<n>` has so many; `pipe` leads to a program.
fn members(recipient: &str) -> Vec<String> {
    if recipient == "pipe@example.org" {
        return vec![JOHN.0.to_owned(), "|/bin/cat".to_owned()];
    }
    let number = recipient.strip_prefix("all").and_then(|rest| rest.strip_suffix("@example.org"));
    (0..number.and_then(|number| number.parse().ok()).unwrap_or(0)).map(|n| format!("{n}@member.test")).collect()
}

/// `slow…` is answered late, `mute…` never.
async fn dawdle(address: &str) {
    if address.starts_with("slow") {
        tokio::time::sleep(SLOW).await;
    } else if address.starts_with("mute") {
        std::future::pending::<()>().await;
    }
}

fn plain(response: &[u8]) -> Step {
    let is = |(login, password): (&str, &str)| response.ends_with(format!("\0{login}\0{password}").as_bytes());
    match response {
        _ if is(JOHN) => success(JOHN.0),
        _ if is(LISA) => success(LISA.0),
        _ if is(MARY) => success(MARY.0),
        r if r.starts_with(b"\0odd@example.org\0") => failure(Reason::Temporary, "odd@example.org"),
        r if r.iter().filter(|&&b| b == 0).count() == 2 => {
            let login = r.split(|&b| b == 0).nth(1).unwrap_or_default();
            failure(Reason::Credentials, &String::from_utf8_lossy(login))
        }
        _ => failure(Reason::Malformed, ""),
    }
}

fn success(login: &str) -> Step {
    let limits = Limits {
        messages: Some(Allowance { count: 3, period: 3_600_000 }),
        recipients: Some(Allowance { count: 6, period: 0 }),
        size: Some(2000),
    };
    let limits = (login == LISA.0).then_some(limits);
    Step::Success(Success { login: login.to_owned(), limits, good_for: good_for(login), ..Success::default() })
}

fn good_for(login: &str) -> u64 {
    if login == MARY.0 { 300_000 } else { 0 }
}

fn failure(reason: Reason, login: &str) -> Step {
    Step::Failure(Failure { reason: reason.into(), detail: "test".to_owned(), login: login.to_owned() })
}

fn response(step: Step) -> AuthenticateResponse {
    AuthenticateResponse { step: Some(step) }
}
