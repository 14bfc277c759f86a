//! Free TCP ports that stay free until their guard is dropped.
//!
//! Tests run as parallel processes, so asking the kernel for a port and closing it again is a race. A lock file a
//! port, below the kernel's own ephemeral range, settles who may use which.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, bail};

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on 127.0.0.1 that no other test uses while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port that is free for TCP and UDP.
    pub fn reserve() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join("staffetta-test-ports");
        std::fs::create_dir_all(&folder).context("cannot create the folder of port locks")?;
        let start = (std::process::id() as u16).wrapping_mul(61);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + start.wrapping_add(step) % COUNT;
            let lock = File::create(folder.join(number.to_string())).context("cannot create a port lock")?;
            if lock.try_lock().is_ok() && is_free(number) {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}

fn is_free(number: u16) -> bool {
    TcpListener::bind(("127.0.0.1", number)).is_ok() && UdpSocket::bind(("127.0.0.1", number)).is_ok()
}
