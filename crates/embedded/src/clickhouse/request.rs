//! A request as ClickHouse's HTTP interface understands it.
//!
//! In: method, address, headers. Out: statement, session, format, parameters; who asks.
//! Never here: the body of an INSERT, running anything.

use super::{engine::Session, exception::Exception};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, Method, http::request::Parts};
use std::collections::BTreeMap;

/// Parameters of the interface itself that mean nothing to a private server: no sessions, roles,
/// quotas, progress headers; results are compressed as `Accept-Encoding` says.
const WITHOUT_MEANING: &[&str] = &[
    "buffer_size",
    "client_protocol_version",
    "close_session",
    "compress",
    "enable_http_compression",
    "http_native_compression_disable_checksumming_on_decompress",
    "http_zlib_compression_level",
    "quota_key",
    "role",
    "send_progress_in_http_headers",
    "session_check",
    "session_id",
    "session_timeout",
    "stacktrace",
];

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Request {
    /// The statement or its beginning, from the address.
    pub(super) query: String,
    pub(super) database: String,
    pub(super) format: String,
    /// The body comes in ClickHouse's compressed blocks.
    pub(super) decompress: bool,
    /// Answer only when the result is complete.
    pub(super) wait_end: bool,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) query_id: String,
    /// GET may only read.
    pub(super) read_only: bool,
    /// Boundary of a multipart body.
    pub(super) boundary: Option<String>,
    pub(super) accepts_lz4: bool,
    user: String,
    password: String,
}

impl Request {
    /// Reads everything but the body.
    pub(super) fn read(parts: &Parts, fresh_id: impl FnOnce() -> String) -> Self {
        let header = |name: &str| text(&parts.headers, name);
        let mut request = Self {
            query: String::new(),
            database: header("x-clickhouse-database").to_owned(),
            format: "TabSeparated".to_owned(),
            decompress: false,
            wait_end: false,
            settings: BTreeMap::new(),
            parameters: Vec::new(),
            query_id: String::new(),
            read_only: parts.method == Method::GET,
            boundary: boundary(header("content-type")),
            accepts_lz4: header("accept-encoding").split(',').any(|coding| coding.trim() == "lz4"),
            user: header("x-clickhouse-user").to_owned(),
            password: header("x-clickhouse-key").to_owned(),
        };
        if let Some((user, password)) = basic(header("authorization")) {
            (request.user, request.password) = (user, password);
        }
        let pairs = parts.uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(pairs.as_bytes()) {
            request.take(&name, value.into_owned());
        }
        if request.query_id.is_empty() {
            request.query_id = fresh_id();
        }
        request
    }

    /// Takes one parameter of the address or one field of a multipart body.
    fn take(&mut self, name: &str, value: String) {
        match name {
            "query" => self.query.push_str(&value),
            "database" => self.database = value,
            "default_format" => self.format = value,
            "decompress" => self.decompress = value == "1",
            "wait_end_of_query" => self.wait_end = value == "1",
            "query_id" => self.query_id = value,
            "user" => self.user = value,
            "password" => self.password = value,
            name if WITHOUT_MEANING.contains(&name) => {}
            name => match name.strip_prefix("param_") {
                Some(parameter) => self.parameters.push((parameter.to_owned(), value)),
                None => {
                    self.settings.insert(name.to_owned(), value);
                }
            },
        }
    }

    /// Takes the fields of a multipart body.
    pub(super) fn take_multipart(&mut self, boundary: &str, body: &[u8]) -> Result<(), Exception> {
        let fields = multipart(boundary, body)
            .ok_or_else(|| Exception::bad_arguments("malformed multipart/form-data body"))?;
        for (name, value) in fields {
            let value = String::from_utf8(value).map_err(|_| {
                Exception::bad_arguments(format_args!("field {name:?} is not UTF-8"))
            })?;
            self.take(&name, value);
        }
        Ok(())
    }

    /// Whether the request names the one user there is. Compares without early exit.
    pub(super) fn is_by(&self, user: &str, password: &str) -> bool {
        let same = |a: &str, b: &str| {
            let differing = a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
            a.len() == b.len() && differing == 0
        };
        same(&self.user, user) & same(&self.password, password)
    }

    /// The state its connection must be in.
    pub(super) fn session(&self) -> Session {
        let settings = self.settings.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        Session { database: self.database.clone(), settings }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, token) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let token = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (user, password) = token.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn boundary(content_type: &str) -> Option<String> {
    let rest = content_type.strip_prefix("multipart/form-data")?;
    let (_, boundary) = rest.split_once("boundary=")?;
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// The fields of a multipart body in their order; `None` where it is malformed.
fn multipart(boundary: &str, body: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let opening = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut rest = body.get(find(body, opening.as_bytes())?..)?.strip_prefix(opening.as_bytes())?;
    let mut fields = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_len = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(rest.get(..head_len)?).ok()?;
        let name = head.split_once("name=\"")?.1.split_once('"')?.0.to_owned();
        rest = rest.get(head_len.checked_add(4)?..)?;
        let value_len = find(rest, between.as_bytes())?;
        fields.push((name, rest.get(..value_len)?.to_vec()));
        rest = rest.get(value_len.checked_add(between.len())?..)?;
    }
}

/// Where `needle` first stands. Looks for its first byte, then compares.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, _) = needle.split_first()?;
    let mut from = 0_usize;
    loop {
        let rest = text.get(from..)?;
        let at = from.checked_add(rest.iter().position(|byte| byte == first)?)?;
        if text.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut builder = hyper::Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        Request::read(&builder.body(()).unwrap().into_parts().0, || "fresh".to_owned())
    }

    #[test]
    fn the_address_gives_statement_session_and_parameters() {
        let found = request(
            "/?query=SELECT+1&database=d&default_format=CSV&max_threads=2&param_a=x%20y&role=r",
            &[("accept-encoding", "gzip, lz4")],
        );
        assert_eq!((found.query.as_str(), found.format.as_str()), ("SELECT 1", "CSV"));
        assert_eq!(found.parameters, [("a".to_owned(), "x y".to_owned())]);
        let settings = vec![("max_threads".to_owned(), "2".to_owned())];
        assert_eq!(found.session(), Session { database: "d".to_owned(), settings });
        assert!(found.accepts_lz4);
        assert_eq!(found.query_id, "fresh");
    }

    #[test]
    fn a_user_is_named_by_headers_by_address_or_by_basic_authorization() {
        let cases: [(&str, &[(&str, &str)]); 3] = [
            ("/", &[("x-clickhouse-user", "u"), ("x-clickhouse-key", "p")]),
            ("/?user=u&password=p", &[]),
            ("/", &[("authorization", "Basic dTpw")]),
        ];
        for (uri, headers) in cases {
            let found = request(uri, headers);
            assert!(found.is_by("u", "p"), "{uri}");
            assert!(!found.is_by("u", "q") && !found.is_by("u", "pp") && !found.is_by("", ""));
        }
    }

    #[test]
    fn a_multipart_body_gives_its_fields_byte_by_byte() {
        let body =
            b"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n--x\r\n\
            --b\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\n\r\n--b--\r\n";
        let fields = multipart("b", body).unwrap();
        assert_eq!(fields[0], ("query".to_owned(), b"SELECT\r\n--x".to_vec()));
        assert_eq!(fields[1], ("param_a".to_owned(), Vec::new()));
        assert_eq!(multipart("b", b"--b\r\nnonsense"), None);
        assert_eq!(boundary("multipart/form-data; boundary=\"q\""), Some("q".to_owned()));
    }

    proptest! {
        #[test]
        fn no_body_stops_the_reader(body: Vec<u8>) {
            let _fields = multipart("b", &body);
            let _begun = multipart("b", &[b"--b\r\n", &body[..]].concat());
        }
    }
}
