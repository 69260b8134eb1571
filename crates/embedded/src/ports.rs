//! Free ports that stay the same from one start to the next.
//!
//! In: an address, port 0 for "choose", and the directory to remember in. Out: a bound listener or
//! a port.
//! Never here: who listens.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};
use tracing::warn;

const FILE: &str = "port";

/// A listener on `address`. With port 0: on the port remembered in `dir` where it is free,
/// otherwise on a new one, which is remembered.
pub(crate) fn listen(address: SocketAddr, dir: &Path) -> io::Result<TcpListener> {
    if address.port() != 0 {
        return bind(address);
    }
    let file = dir.join(FILE);
    let remembered = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = remembered.filter(|port| *port != 0) {
        match bind(SocketAddr::new(address.ip(), port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                warn!(port, %error, "the port of the last start is taken, taking another")
            }
        }
    }
    let listener = bind(address)?;
    fs::write(&file, format!("{}\n", listener.local_addr()?.port()))?;
    Ok(listener)
}

/// A port on `address` that was free a moment ago, chosen and remembered like [`listen`].
pub(crate) fn choose(address: SocketAddr, dir: &Path) -> io::Result<u16> {
    listen(address, dir)?.local_addr().map(|address| address.port())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_chosen_port_stays_until_somebody_else_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = choose(any, dir.path()).unwrap();
        let listener = listen(any, dir.path()).unwrap();
        assert_eq!(listener.local_addr().unwrap().port(), first);
        let second = choose(any, dir.path()).unwrap();
        assert_ne!(second, first);
        drop(listener);
        assert_eq!(choose(any, dir.path()).unwrap(), second);
    }
}
