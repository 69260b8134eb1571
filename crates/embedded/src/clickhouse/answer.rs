//! The body of a response.
//!
//! In: whole text, or pieces from a running query. Out: HTTP frames.
//! Never here: what to answer.

use super::{compression::lz4_frame, exception::Exception, ffi::Work, running::StopOnDrop};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// What a running query hands over.
pub(super) enum Piece {
    /// Some of the result.
    Data(Bytes),
    /// It failed; nothing follows.
    Failed(Exception),
    /// It is complete; nothing follows.
    End(Work),
}

pub(super) enum Answer {
    /// All of it, not yet sent.
    Whole(Option<Bytes>),
    /// The rest of a running query.
    Pieces(Box<Pieces>),
}

pub(super) struct Pieces {
    /// The piece that came before the response began.
    pub(super) first: Option<Bytes>,
    pub(super) rest: mpsc::Receiver<Piece>,
    /// Announced in the header; marks an error in the midst.
    pub(super) tag: String,
    pub(super) lz4: bool,
    pub(super) ended: bool,
    /// Stops the query when the client goes away.
    pub(super) stop: StopOnDrop,
}

impl Answer {
    pub(super) fn whole(text: impl Into<Bytes>) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Whole(text) => text.take().filter(|text| !text.is_empty()),
            Self::Pieces(pieces) => match pieces.poll(context) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(next.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Self::Pieces(pieces) => pieces.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                u64::try_from(length).map_or_else(|_| SizeHint::new(), SizeHint::with_exact)
            }
            Self::Pieces(_) => SizeHint::new(),
        }
    }
}

impl Pieces {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = match self.first.take() {
            Some(data) => Some(Piece::Data(data)),
            None => match self.rest.poll_recv(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        let text = match piece {
            Some(Piece::Data(data)) => data,
            Some(Piece::End(_)) => {
                self.ended = true;
                self.stop.disarm();
                return Poll::Ready(None);
            }
            Some(Piece::Failed(error)) => {
                self.ended = true;
                error.block(&self.tag).into()
            }
            // The worker ended without a word: say so, rather than pass for a complete result.
            None => {
                self.ended = true;
                Exception::gone("the query").block(&self.tag).into()
            }
        };
        Poll::Ready(Some(if self.lz4 { lz4_frame(&text) } else { text }))
    }
}
