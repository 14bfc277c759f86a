//! Where Redis is: one server, Sentinels that know which of several is the primary now, or a cluster of several primaries.
//!
//! Sentinels, and members of a cluster, are asked for each connection, so a connection that is lost because its server was demoted or died leads to
//! the new primary as soon as they agree on one. That a server is the primary it must say itself
//! ([`crate::server_check`]): until they have noticed, Sentinels name one that is gone or no longer it.

use std::fmt;
use std::sync::Arc;

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisResult, TlsCertificates,
    TlsMode,
};

use crate::cluster::{Cluster, Wanted};
use crate::connection::{RESPONSE_TIMEOUT, trouble};
use crate::error::Trouble;
use crate::slot;
use crate::tls::TlsFiles;
use crate::{Error, Settings};

/// The port of a Sentinel, when none is said.
const SENTINEL_PORT: u16 = 26_379;
const FORMS: &str = "set redis://host:port, rediss://host:port, redis-sentinel://host:port,host:port/name, \
    rediss-sentinel://host:port,host:port/name, redis-cluster://host:port,host:port, rediss-cluster://host:port,host:port \
    or unix:/path";

/// Where Redis is.
#[derive(Clone)]
pub(crate) enum Address {
    /// Here.
    Server(Client),
    /// Here, by TLS.
    Secure(ConnectionInfo, TlsFiles),
    /// Where these say.
    Sentinels(Sentinels),
    /// One of the primaries of this.
    Cluster(Arc<Cluster>, Wanted),
}

/// Who knows the primary of a name.
#[derive(Clone)]
pub(crate) struct Sentinels {
    /// Without a login.
    hosts: Vec<ConnectionInfo>,
    name: String,
    /// For the servers; Sentinels that want a login get this one.
    login: RedisConnectionInfo,
    /// They and the servers are spoken to by TLS, with these.
    tls: Option<TlsFiles>,
}

impl Address {
    /// The URL in its forms, with what the defaults of the client library get wrong. Files of TLS are read once, to see that
    /// they can be.
    pub(crate) fn parse(settings: &Settings) -> Result<Self, Error> {
        let (url, tls) = (&*settings.url, &settings.tls);
        let wrong = |text: String| Error::Settings(format!("redis.url: {text}"));
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        match scheme {
            "redis" | "rediss" | "unix" => {
                let info = url.into_connection_info().map_err(|error| wrong(error.to_string()))?;
                let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                let info = info.set_tcp_settings(tcp()).set_redis_settings(redis);
                if scheme == "rediss" {
                    tls.secure(info.clone()).map_err(Error::Settings)?;
                    return Ok(Self::Secure(info, tls.clone()));
                }
                Client::open(info).map(Self::Server).map_err(|error| wrong(error.to_string()))
            }
            "redis-sentinel" => Sentinels::parse(rest, None).map(Self::Sentinels).map_err(wrong),
            "rediss-sentinel" => {
                tls.read().map_err(Error::Settings)?;
                Sentinels::parse(rest, Some(tls.clone())).map(Self::Sentinels).map_err(wrong)
            }
            "redis-cluster" => Cluster::parse(rest, None).map(Arc::new).map(Self::in_cluster).map_err(wrong),
            "rediss-cluster" => {
                tls.read().map_err(Error::Settings)?;
                Cluster::parse(rest, Some(tls.clone())).map(Arc::new).map(Self::in_cluster).map_err(wrong)
            }
            _ => Err(wrong(FORMS.to_owned())),
        }
    }

    /// Some primary of it.
    pub(crate) fn in_cluster(cluster: Arc<Cluster>) -> Self {
        Self::Cluster(cluster, Wanted::Slot(0))
    }

    /// Where this key is.
    pub(crate) fn of_key(&self, key: &str) -> Self {
        self.of_slot(slot::of_key(key.as_bytes()))
    }

    /// Where the keys of this slot are.
    pub(crate) fn of_slot(&self, slot: u16) -> Self {
        self.of(Wanted::Slot(slot))
    }

    /// The primary of the shard with this number, whoever it is.
    pub(crate) fn of_shard(&self, number: u16) -> Self {
        self.of(Wanted::Shard(number))
    }

    fn of(&self, wanted: Wanted) -> Self {
        match self {
            Self::Cluster(cluster, _) => Self::Cluster(cluster.clone(), wanted),
            other => other.clone(),
        }
    }

    /// The cluster, if it is one.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Cluster(cluster, _) => Some(cluster),
            _ => None,
        }
    }

    /// Which server it is, as far as one can be away while others are not.
    pub(crate) fn server(&self) -> String {
        let Self::Cluster(cluster, wanted) = self else { return self.to_string() };
        match wanted {
            Wanted::Shard(number) => format!("shard {number} of {cluster}"),
            Wanted::Slot(slot) => match cluster.map().of_slot(*slot) {
                Some(number) => format!("shard {number} of {cluster}"),
                None => cluster.to_string(),
            },
        }
    }

    /// The way to the primary, as far as is known now.
    pub(crate) async fn primary(&self) -> Result<Client, Trouble> {
        let way = match self {
            Self::Server(client) => Ok(client.clone()),
            Self::Secure(place, tls) => tls.secure(place.clone()).map_err(Trouble::Wrong),
            Self::Sentinels(sentinels) => sentinels.primary().await,
            Self::Cluster(cluster, wanted) => cluster.primary(*wanted).await.map_err(Trouble::Away),
        };
        way.map_err(|trouble| trouble.behind(self))
    }
}

/// Host and port, or the socket; of Sentinels, who they are and what they are asked for; of a cluster, where it was begun with.
/// No login.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(client) => client.get_connection_info().addr().fmt(f),
            Self::Secure(place, _) => place.addr().fmt(f),
            Self::Sentinels(Sentinels { hosts, name, .. }) => {
                let hosts: Vec<String> = hosts.iter().map(|host| host.addr().to_string()).collect();
                write!(f, "{name} of {}", hosts.join(","))
            }
            Self::Cluster(cluster, _) => cluster.fmt(f),
        }
    }
}

impl Sentinels {
    /// `//[user[:password]@]host[:port][,host[:port]…]/name[/database]`.
    fn parse(rest: &str, tls: Option<TlsFiles>) -> Result<Self, String> {
        let rest = rest.trim_start_matches('/');
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Err("say which primary the Sentinels know: redis-sentinel://host:port,host:port/name".to_owned());
        }
        let parsed = |url: String| url.into_connection_info().map_err(|error| error.to_string());
        // The library reads the login and the number of the database as it does in the URL of a server.
        let at = if login.is_empty() { "" } else { "@" };
        let login = parsed(format!("redis://{login}{at}localhost/{database}"))?;
        let hosts = hosts.split(',').map(|host| {
            let has_port = host.rsplit_once(']').map_or(host, |(_, port)| port).contains(':');
            let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
            let scheme = if tls.is_some() { "rediss" } else { "redis" };
            parsed(format!("{scheme}://{host}{port}"))
        });
        let hosts = hosts.collect::<Result<_, String>>()?;
        let login = login.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self { hosts, name: name.to_owned(), login, tls })
    }

    async fn primary(&self) -> Result<Client, Trouble> {
        match self.ask(None).await.map_err(Trouble::Wrong)? {
            Err(error) if error.code() == Some("NOAUTH") && self.login.password().is_some() => {
                self.ask(Some(&self.login)).await.map_err(Trouble::Wrong)?
            }
            answer => answer,
        }
        .map_err(|error| trouble(&error).behind(format_args!("no Sentinel names a primary for {:?}", self.name)))
    }

    /// Asks with this login, or without one. The outer error is of the files of TLS.
    async fn ask(&self, login: Option<&RedisConnectionInfo>) -> Result<RedisResult<Client>, String> {
        let certificates = self.tls.as_ref().map(TlsFiles::read).transpose()?;
        Ok(match self.client(login, certificates) {
            Ok(mut client) => Box::pin(client.async_get_client()).await,
            Err(error) => Err(error),
        })
    }

    fn client(&self, login: Option<&RedisConnectionInfo>, tls: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
        let hosts = self.hosts.iter().map(|host| host.addr().clone());
        let mut builder = SentinelClientBuilder::new(hosts, &self.name, SentinelServerType::Master)?
            .set_client_to_sentinel_tcp_settings(tcp())
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_db(self.login.db());
        if let Some(user) = self.login.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.login.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = login.and_then(RedisConnectionInfo::username) {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = login.and_then(RedisConnectionInfo::password) {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if let Some(certificates) = tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        builder.build()
    }
}

pub(crate) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_user_timeout(RESPONSE_TIMEOUT)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use redis::ConnectionAddr;

    use super::*;

    fn server(url: &str) -> ConnectionInfo {
        match Address::parse(&Settings::at(url)).unwrap() {
            Address::Server(client) => client.get_connection_info().clone(),
            Address::Secure(info, _) => info,
            Address::Sentinels(_) | Address::Cluster(..) => panic!("{url}"),
        }
    }

    #[test]
    fn urls_of_the_manual_are_understood() {
        for url in ["redis://127.0.0.1:6379", "rediss://redis.example", "unix:/run/redis/redis.sock"] {
            server(url);
        }
        let info = server("redis://user:s%40cret@redis.example:6380/3");
        assert_eq!((info.redis_settings().db(), info.redis_settings().password()), (3, Some("s@cret")));
        for url in ["unix:/a/b", "unix:///a/b"] {
            assert!(matches!(server(url).addr(), ConnectionAddr::Unix(path) if path.ends_with("a/b")), "{url}");
        }
    }

    #[test]
    fn sentinels_have_hosts_a_name_and_the_login_of_the_servers() {
        let parsed = |url: &str| match Address::parse(&Settings::at(url)).unwrap() {
            Address::Sentinels(sentinels) => sentinels,
            _ => panic!("{url}"),
        };
        let plain = parsed("redis-sentinel://a.example:26380,b.example,[::1],[::2]:7/mymaster");
        let hosts: Vec<String> = plain.hosts.iter().map(|host| host.addr().to_string()).collect();
        assert_eq!(hosts, ["a.example:26380", "b.example:26379", "::1:26379", "::2:7"]);
        assert_eq!((&*plain.name, plain.login.password(), plain.login.db()), ("mymaster", None, 0));
        let login = parsed("redis-sentinel://mail:s%2Fcret@a.example/mymaster/2");
        assert_eq!(login.login.username(), Some("mail"));
        assert_eq!((login.login.password(), login.login.db()), (Some("s/cret"), 2));
        assert!(login.hosts.iter().all(|host| host.redis_settings().password().is_none()));
    }

    #[test]
    fn urls_that_cannot_work_say_so() {
        for (url, text) in [
            ("redis-sentinel://a:26379,b:26379", "say which primary"),
            ("redis-sentinel://a:26379/mymaster/x", "redis.url"),
            ("redis-sentinel://a:port/mymaster", "redis.url"),
            ("redis-sentinel:///mymaster", "redis.url"),
            ("redis-cluster://a,b/0", "no database number"),
            ("rediss-cluster://a,:1", "redis.url"),
            ("http://a", "set redis://"),
            ("", "set redis://"),
            ("redis://a/x", "redis.url"),
        ] {
            let error = Address::parse(&Settings::at(url)).err().unwrap();
            assert!(error.to_string().contains(text), "{url}: {error}");
        }
    }
}
