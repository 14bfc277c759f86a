//! From a URL to a store.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::directory::Directory;
use crate::{Fault, Opened, told};

/// Tries after the first one.
const RETRIES: usize = 3;
/// After so long nothing is tried again; shorter than what a call may take.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

/// A URL that names no store.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names no store: use file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")]
pub struct BadUrl(String);

/// Where a store is.
pub(crate) struct Place {
    url: String,
    kind: Kind,
    /// A path of the machine, or what stands in front of every name.
    path: String,
    variables: Vec<(String, String)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Directory,
    S3,
    Google,
    Azure,
}

impl Kind {
    const ALL: [(&str, Self, &str); 4] = [
        ("file://", Self::Directory, ""),
        ("s3://", Self::S3, "AWS_"),
        ("gs://", Self::Google, "GOOGLE_"),
        ("az://", Self::Azure, "AZURE_"),
    ];
}

impl Place {
    pub(crate) fn parse(url: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, BadUrl> {
        let bad = || BadUrl(url.to_owned());
        let known = Kind::ALL.iter().find_map(|(scheme, kind, begin)| Some((url.strip_prefix(scheme)?, *kind, *begin)));
        let (rest, kind, begin) = known.ok_or_else(bad)?;
        let path = match kind {
            Kind::Directory => rest,
            _ => rest.split_once('/').map_or("", |(_, prefix)| prefix),
        };
        let is_named = match kind {
            Kind::Directory => path.starts_with('/') && path.len() > 1,
            _ => rest.split('/').next().is_some_and(|bucket| !bucket.is_empty()),
        };
        if !is_named {
            return Err(bad());
        }
        let ours = |(name, _): &(String, String)| !begin.is_empty() && name.starts_with(begin);
        let variables = variables.into_iter().filter(ours).map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Self { url: url.to_owned(), kind, path: path.to_owned(), variables: variables.collect() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// `makes`: a directory that is not there is made.
    pub(crate) async fn open(&self, makes: bool) -> Result<Opened, Fault> {
        if self.is_directory() {
            let (directory, objects) = Directory::open(&self.path, makes).await?;
            return Ok(Opened { objects, base: Path::default(), directory: Some(directory) });
        }
        let objects = self.remote().map_err(|error| Fault::Away(told(&error)))?;
        Ok(Opened { objects, base: Path::from(self.path.as_str()), directory: None })
    }

    fn remote(&self) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
        let client = ClientOptions::new().with_timeout(TRY).with_connect_timeout(CONNECT);
        // What is ours, then what the environment says, then the URL.
        macro_rules! build {
            ($builder:ty) => {{
                let mut builder = <$builder>::new().with_client_options(client);
                for (name, value) in &self.variables {
                    if let Ok(key) = name.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.with_url(&self.url).with_retry(retry).build()?)
            }};
        }
        Ok(match self.kind {
            Kind::S3 => build!(AmazonS3Builder),
            Kind::Google => build!(GoogleCloudStorageBuilder),
            Kind::Azure | Kind::Directory => build!(MicrosoftAzureBuilder),
        })
    }
}
