//! The pages, rendered at compile-checked templates.
//!
//! In: the latest snapshot, the language asked for. Out: HTML, events, JSON.
//! Never here: where numbers come from (see `gather`).

use crate::{Language, Shared, Snapshot, Words};
use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{
        Html, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc};

/// `?lang=en`
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    lang: Option<Language>,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'s> {
    language: Language,
    other: Language,
    words: &'static Words,
    snapshot: &'s Snapshot,
}

#[derive(Template)]
#[template(path = "live.html")]
struct Live<'s> {
    words: &'static Words,
    snapshot: &'s Snapshot,
}

/// Filters of the templates.
#[expect(unreachable_pub, reason = "the filter macro makes a public method of it")]
mod filters {
    use std::fmt::Display;

    /// `1234567` as `1,234,567`.
    #[askama::filter_fn]
    pub(super) fn grouped(number: impl Display, _: &dyn askama::Values) -> askama::Result<String> {
        let digits = number.to_string();
        let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
        for (position, digit) in digits.chars().enumerate() {
            if position > 0 && (digits.len() - position).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        Ok(grouped)
    }
}

fn language(asked: &Asked, headers: &HeaderMap) -> Language {
    asked.lang.unwrap_or_else(|| {
        let accepts = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Language::preferred(accepts.unwrap_or_default())
    })
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page does not render");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

pub(crate) async fn first(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let language = language(&asked, &headers);
    let other = match language {
        Language::Chinese => Language::English,
        Language::English => Language::Chinese,
    };
    let snapshot = Arc::clone(&shared.latest.borrow());
    render(&Page { language, other, words: Words::of(language), snapshot: &snapshot })
}

/// The live part of the page, sent again whenever new numbers were taken.
pub(crate) async fn live(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let words = Words::of(language(&asked, &headers));
    let events = stream::unfold(shared, move |mut shared| async move {
        let changed =
            shared.shutdown.clone().run_until_cancelled_owned(shared.latest.changed()).await;
        let Some(Ok(())) = changed else { return None };
        let snapshot = Arc::clone(&shared.latest.borrow_and_update());
        let html = Live { words, snapshot: &snapshot }.render().unwrap_or_default();
        Some((Ok(Event::default().data(html)), shared))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

pub(crate) async fn live_json(State(shared): State<Shared>) -> Json<Snapshot> {
    Json(Snapshot::clone(&shared.latest.borrow()))
}

pub(crate) async fn metrics(State(shared): State<Shared>) -> String {
    (shared.metrics)()
}

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../assets/console.css"))
}

pub(crate) async fn script() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("../assets/console.js"),
    )
}

/// The headers every answer carries: nothing is loaded from elsewhere, nobody frames us.
pub(crate) async fn secured(mut answer: Response) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 4] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    answer.headers_mut().extend(HEADERS);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CycleLine, Refused};

    fn snapshot() -> Snapshot {
        Snapshot {
            taken_at: "2026-11-01T00:00:00Z".to_owned(),
            received: 1_234_567,
            stored: 1_234_000,
            duplicate: 500,
            rejected: 67,
            refused: vec![Refused { reason: "<script>".to_owned(), uplinks: 67 }],
            cycles: vec![CycleLine {
                book: "B1".to_owned(),
                name: "2026-10".to_owned(),
                active: 100,
                billed: 97,
                held: 2,
                excused: 1,
                amount: "4210.55".to_owned(),
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_page_speaks_both_languages_and_escapes_what_it_shows() {
        let snapshot = snapshot();
        for (language, word) in [(Language::Chinese, "实时采集"), (Language::English, "Ingest now")]
        {
            let words = Words::of(language);
            let page = Page { language, other: language, words, snapshot: &snapshot };
            let html = page.render().unwrap();
            assert!(html.contains(word) && html.contains("1,234,567"), "{html}");
            assert!(html.contains(&format!("<html lang=\"{}\"", language.tag())));
            assert!(!html.contains("<script>"), "a reason is shown as text");
            assert!(html.contains(words.complete), "97 + 2 + 1 = 100");
        }
    }

    #[test]
    fn a_residue_is_an_alarm() {
        let unbalanced = Snapshot { stored: 1, ..snapshot() };
        let words = Words::of(Language::English);
        let html = Live { words, snapshot: &unbalanced }.render().unwrap();
        assert!(html.contains("does not balance"), "{html}");
    }
}
