//! The trace that the calls of a run belong to, and its header on them.
//!
//! A run says once whose part it is, and every request to a vendor that leaves within it carries a `traceparent` of its own, whichever
//! adapter makes it. This is the one thing that is around a run and not handed to it: it goes through every adapter and means
//! nothing to any. Deliberately absent: the header on what is fetched from strangers.

use reqwest::RequestBuilder;

use shared::trace::{TRACEPARENT, Trace};

tokio::task_local! {
    static TRACE: Trace;
}

/// Does `work` as a part of a trace, if there is one.
pub async fn within<T>(trace: Option<Trace>, work: impl Future<Output = T>) -> T {
    match trace {
        Some(trace) => TRACE.scope(trace, work).await,
        None => work.await,
    }
}

/// The request as a part of the trace that it is made within, if it is.
pub fn sign(request: RequestBuilder) -> RequestBuilder {
    sign_as(request, TRACE.try_with(|trace| *trace).ok())
}

/// The request as a part of this trace.
pub fn sign_as(request: RequestBuilder, trace: Option<Trace>) -> RequestBuilder {
    match trace {
        Some(trace) => request.header(TRACEPARENT, trace.child().to_string()),
        None => request,
    }
}
