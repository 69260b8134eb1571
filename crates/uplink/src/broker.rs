//! Where the MQTT broker is.
//!
//! In: the text of a setting. Out: host, port and login, or what is wrong with the text.
//! Never here: connecting; a password in print.

use serde::Deserialize;
use std::{fmt, str::FromStr};

const PORT: u16 = 1883;

/// A broker's address: `mqtt://[user[:password]@]host[:port]`. Printed without its login.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerAddress {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// Text that names no broker. Says nothing of the text itself: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a broker address: {0}; want mqtt://[user[:password]@]host[:port], without TLS")]
pub struct BrokerAddressError(&'static str);

impl Default for BrokerAddress {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: PORT, login: None }
    }
}

impl TryFrom<String> for BrokerAddress {
    type Error = BrokerAddressError;

    fn try_from(text: String) -> Result<Self, BrokerAddressError> {
        text.parse()
    }
}

impl FromStr for BrokerAddress {
    type Err = BrokerAddressError;

    fn from_str(text: &str) -> Result<Self, BrokerAddressError> {
        let rest =
            text.strip_prefix("mqtt://").ok_or(BrokerAddressError("no mqtt:// before it"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A password may hold an @, a host may not.
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login.split_once(':').unwrap_or((login, ""))), place),
            None => (None, rest),
        };
        // The colons of an address in brackets are its own.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (host, port.ok_or(BrokerAddressError("the port is not 1 to 65535"))?)
            }
            Some(_) | None => (place, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(BrokerAddressError("the host is missing"));
        }
        if host.contains(['/', '?']) {
            return Err(BrokerAddressError("a path has no meaning"));
        }
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        Ok(Self { host: host.to_owned(), port, login })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, login } = self;
        let login = if login.is_some() { "…@" } else { "" };
        if host.contains(':') {
            write!(f, "mqtt://{login}[{host}]:{port}")
        } else {
            write!(f, "mqtt://{login}{host}:{port}")
        }
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_address_is_read_or_refused_and_its_login_never_printed() {
        let cases = [
            ("mqtt://localhost", Ok("mqtt://localhost:1883"), None),
            ("mqtt://10.0.0.1:18830/", Ok("mqtt://10.0.0.1:18830"), None),
            ("mqtt://me:p@ss@broker:1", Ok("mqtt://…@broker:1"), Some(("me", "p@ss"))),
            ("mqtt://me:p:@broker", Ok("mqtt://…@broker:1883"), Some(("me", "p:"))),
            ("mqtt://me@broker", Ok("mqtt://…@broker:1883"), Some(("me", ""))),
            ("mqtt://[::1]:1884", Ok("mqtt://[::1]:1884"), None),
            ("mqtt://[::1]", Ok("mqtt://[::1]:1883"), None),
            ("", Err("no mqtt:// before it"), None),
            ("mqtts://me:geheim@b", Err("no mqtt:// before it"), None),
            ("mqtt://", Err("the host is missing"), None),
            ("mqtt://me:geheim@:1", Err("the host is missing"), None),
            ("mqtt://me:geheim@b:0", Err("the port is not 1 to 65535"), None),
            ("mqtt://b:port", Err("the port is not 1 to 65535"), None),
            ("mqtt://b/geheim", Err("a path has no meaning"), None),
        ];
        for (text, want, login) in cases {
            match (text.parse::<BrokerAddress>(), want) {
                (Ok(address), Ok(printed)) => {
                    assert_eq!(
                        (address.to_string(), format!("{address:?}")),
                        (printed.into(), printed.into())
                    );
                    let read = address.login.as_ref().map(|(u, p)| (u.as_str(), p.as_str()));
                    assert_eq!(read, login, "{text}");
                    if login.is_none() {
                        assert_eq!(printed.parse(), Ok(address));
                    }
                }
                (Err(error), Err(what)) => {
                    let said = error.to_string();
                    assert!(said.starts_with(&format!("not a broker address: {what}; want ")));
                    assert!(!said.contains("geheim"), "{said}");
                }
                (got, want) => assert_eq!(
                    got.map(|a| a.to_string()),
                    want.map(str::to_owned).map_err(BrokerAddressError),
                    "{text}"
                ),
            }
        }
    }
}
