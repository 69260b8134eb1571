//! Errors as ClickHouse reports them over HTTP.
//!
//! In: the engine's text, or something wrong with the request. Out: code, status, text.
//! Never here: deciding what is wrong.

use super::ffi::EngineText;
use hyper::StatusCode;

/// An error a client is told of: `Code: 62. DB::Exception: … (SYNTAX_ERROR)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exception {
    text: String,
}

impl From<EngineText> for Exception {
    fn from(EngineText(text): EngineText) -> Self {
        Self { text }
    }
}

impl Exception {
    /// An error of ours in ClickHouse's form.
    pub(super) fn new(code: u32, name: &str, message: impl std::fmt::Display) -> Self {
        Self { text: format!("Code: {code}. DB::Exception: {message}. ({name})") }
    }

    /// The request contradicts itself or is not understood.
    pub(super) fn bad_arguments(message: impl std::fmt::Display) -> Self {
        Self::new(36, "BAD_ARGUMENTS", message)
    }

    /// The connection or the body ended early.
    pub(super) fn network(message: impl std::fmt::Display) -> Self {
        Self::new(210, "NETWORK_ERROR", message)
    }

    /// A part of the server is gone.
    pub(super) fn gone(what: &str) -> Self {
        Self::new(1001, "STD_EXCEPTION", format_args!("{what} ended early"))
    }

    /// ClickHouse's error code; 1002 where the text has none.
    pub(super) fn code(&self) -> u32 {
        let digits = self.text.strip_prefix("Code: ").and_then(|rest| rest.split('.').next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(1002)
    }

    /// The HTTP status ClickHouse gives such an error.
    pub(super) fn status(&self) -> StatusCode {
        match self.code() {
            6 | 27 | 33 | 36 | 38 | 41 | 43 | 46 | 47 | 53 | 62 | 69 | 89 | 115 | 117 | 131
            | 170 | 190 | 377 | 386 | 456 | 457 => StatusCode::BAD_REQUEST,
            60 | 81 => StatusCode::NOT_FOUND,
            159 => StatusCode::REQUEST_TIMEOUT,
            164 => StatusCode::FORBIDDEN,
            192..=194 | 516 => StatusCode::FORBIDDEN,
            202 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The text of a response's body.
    pub(super) fn body(&self) -> String {
        let text = self.text.trim_end();
        if text.contains("(version ") {
            format!("{text}\n")
        } else {
            format!("{text} (version 26.7.3.1 (embedded))\n")
        }
    }

    /// The block that ends a body whose beginning is on its way already (protocol of ClickHouse
    /// 25.11: the tag stands in the header `X-ClickHouse-Exception-Tag`).
    pub(super) fn block(&self, tag: &str) -> String {
        let text = self.body();
        let length = text.len();
        format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_in_the_text_decides_the_status() {
        let cases = [
            ("Code: 60. DB::Exception: x", 60, 404),
            ("Code: 62. DB::Exception: x", 62, 400),
            ("Code: 516. DB::Exception: x", 516, 403),
            ("Code: 395. DB::Exception: x", 395, 500),
            ("something else", 1002, 500),
        ];
        for (text, code, status) in cases {
            let exception = Exception::from(EngineText(text.to_owned()));
            assert_eq!((exception.code(), exception.status().as_u16()), (code, status), "{text}");
        }
    }
}
