//! Bodies that somebody still sends after the answer is known.
//!
//! Closing a connection with bytes unread resets it, and the reset may overtake the answer: a caller
//! with a body that is too large would learn nothing but that the connection broke. So the rest is
//! read and thrown away for a while.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How long the rest of a body is read.
const AT_MOST: Duration = Duration::from_secs(5);

/// The body of a request; what of it nobody has read is read when it is dropped.
pub(super) struct Unread {
    body: Option<Incoming>,
    /// The caller sends nothing before it has been asked to.
    waits: bool,
}

impl Unread {
    /// The body that came with these headers.
    pub(super) fn new(headers: &HeaderMap, body: Incoming) -> Self {
        Self { body: Some(body), waits: headers.contains_key(header::EXPECT) }
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !self.waits && !body.is_end_stream());
        let Some(mut rest) = rest else { return };
        // Without a runtime there is no connection any more either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(AT_MOST, async move {
            while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await
            {
            }
        }));
    }
}
