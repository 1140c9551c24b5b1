//! One exchange: a request, from its first byte to its answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Buf;
use http::{
    HeaderMap, Request,
    header::{CONTENT_LENGTH, EXPECT},
    request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kms_core::{Error, RequestId, identity::Caller, ops::Operation};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    answer::{Answer, Fault, Form},
    codes::{Code, Unfit},
    credentials::HttpCredentials,
    iam, operations,
    routes::Table,
    signature,
    token::TokenKey,
};
use crate::{gate::Gate, traffic::told};

/// The longest body. No call needs a longer one but a search by more than forty of the longest values of tags, all of
/// them in escapes (docs/dew-compat.md). The next longest is a batch of tags, of 91 KiB.
const MAX_BODY_BYTES: usize = 128 * 1024;
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too long is taken, unread, from a client that reads no answer before it has sent all.
const MOST_DISCARDED_BYTES: usize = 8 * 1024 * 1024;
/// How long such a client may send nothing before it is let go.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);
/// How many headers a request may have.
const MAX_HEADERS: usize = 64;
/// The parameter of paths that names a project.
const PROJECT: &str = "project_id";

/// Everything that DEW's protocol needs to answer calls.
pub(crate) struct Rest {
    pub(super) gate: Arc<Gate>,
    pub(super) tokens: TokenKey,
    pub(super) door: iam::Door,
    /// `https`, unless connections are in the clear.
    pub(super) scheme: &'static str,
    table: Table,
}

/// A request that has come in whole.
pub(crate) struct Arrived {
    pub(super) request_id: RequestId,
    pub(super) source: SocketAddr,
    /// In whose form it is refused.
    pub(super) form: Form,
    pub(super) parts: Parts,
    /// What its path holds, decoded.
    pub(super) parameters: Vec<(String, String)>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Rest {
    /// On this gate; `scheme` is that of the URLs that it is called by.
    pub(crate) fn new(gate: Arc<Gate>, scheme: &'static str) -> Result<Self, Error> {
        let table = Table::of(operations::all().into_iter().chain(iam::rows()).collect());
        let table = table.map_err(|_| Error::Internal { detail: "two operations have the same path" })?;
        Ok(Self { gate, tokens: TokenKey::random()?, door: iam::Door::default(), scheme, table })
    }

    /// Answers one request of the other end; `answering` turns true once it has come in whole.
    pub(super) async fn exchange(
        self: Arc<Self>,
        request: Request<Incoming>,
        source: SocketAddr,
        answering: &watch::Sender<bool>,
    ) -> Answer {
        let request_id = Uuid::new_v4();
        let mut answer = match self.answer(request_id, request, source, answering).await {
            Ok(answer) => answer,
            Err((form, fault)) => {
                let code = fault.code().number;
                tracing::debug!(%request_id, %source, code, "a request was refused that is no call");
                self.gate.metrics.no_call(code);
                fault.answer(form, request_id)
            }
        };
        told::request(answer.headers_mut(), request_id);
        answer
    }

    async fn answer(
        self: &Arc<Self>,
        request_id: RequestId,
        request: Request<Incoming>,
        source: SocketAddr,
        answering: &watch::Sender<bool>,
    ) -> Result<Answer, (Form, Fault)> {
        let (parts, body) = request.into_parts();
        let found = self.table.find(&parts.method, parts.uri.path());
        let (row, parameters) = found.map_err(|fault| (Form::Kms, fault))?;
        let form = row.form;
        if parts.headers.len() > MAX_HEADERS {
            return Err((form, Fault::new(Code::FORMAT_INVALID, "the request has more than 64 headers")));
        }
        let body = read(&parts.headers, body).await.map_err(|fault| (form, fault))?;
        answering.send_replace(true);
        Ok(row.run(self.clone(), Arrived { request_id, source, form, parts, parameters, body }).await)
    }

    /// Passes an operation through the gate: `read` makes it of the request, for callers who may call only; `render`
    /// makes the answer of the caller, of what was kept of the request, and of what the operation gives.
    pub(super) async fn pass<O: Operation, K>(
        &self,
        arrived: &Arrived,
        read: impl FnOnce() -> Result<(O, K), Unfit>,
        render: impl FnOnce(&Caller, K, O::Output) -> Answer,
    ) -> Answer {
        let (mut kept, mut code) = (None, None);
        let operation = || match read() {
            Ok((operation, keep)) => {
                kept = Some(keep);
                Ok(operation)
            }
            Err(unfit) => {
                code = unfit.code;
                Err(unfit.error)
            }
        };
        let credentials = self.credentials(arrived);
        let (id, mut remaining) = (arrived.request_id, None);
        let passed = self.gate.pass_unread(id, &credentials, operation, &mut remaining).await;
        let mut answer = match (passed, credentials.let_in(), kept) {
            (Ok(recorded), Some(caller), Some(kept)) => render(caller, kept, recorded.into_inner()),
            (Err(refused), ..) => {
                let fault = match refused.error() {
                    Error::Unauthenticated(why) => credentials.refusal(*why),
                    // What the transport found before the pipeline asked for it.
                    error @ Error::InvalidField { .. } => {
                        Fault::of(error, code.unwrap_or_else(|| Code::of(error, O::NAME)))
                    }
                    error => Fault::of(error, Code::of(error, O::NAME)),
                };
                arrived.refused(refused.error(), &fault)
            }
            // Nobody passes the gate who was not let in, and nothing that could not be read.
            (Ok(_), ..) => Fault::new(Code::SERVICE_ERROR, "internal error").answer(arrived.form, id),
        };
        if let Some(remaining) = &remaining {
            told::remaining(answer.headers_mut(), remaining);
        }
        answer
    }

    /// What shows who made this request.
    fn credentials<'a>(&'a self, arrived: &'a Arrived) -> HttpCredentials<'a> {
        let Arrived { parts, parameters, body, source, .. } = arrived;
        let request = signature::Request {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body,
        };
        let project = parameters.iter().find(|(name, _)| name == PROJECT).map(|(_, id)| id.as_str());
        HttpCredentials::new(request, project, &self.tokens, *source)
    }
}

impl Arrived {
    /// The answer that it is refused by: this error, told as this fault.
    pub(super) fn refused(&self, error: &Error, fault: &Fault) -> Answer {
        let mut answer = fault.answer(self.form, self.request_id);
        if let Error::Throttled(throttled) = error {
            told::refusal(answer.headers_mut(), throttled);
        }
        answer
    }
}

/// The whole body, in a buffer that is wiped and was not moved. DEW: KMS.0203.
async fn read(headers: &HeaderMap, mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let too_long = || Fault::new(Code::BODY_TOO_LONG, "the body is longer than 131072 bytes");
    let cut_off = || Fault::new(Code::FORMAT_INVALID, "the body did not come to its end");
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let capacity = announced.unwrap_or(MAX_BODY_BYTES);
    if capacity > MAX_BODY_BYTES {
        // Who waits for leave to send it does not get it.
        if !headers.contains_key(EXPECT) {
            tokio::spawn(discard(body));
        }
        return Err(too_long());
    }
    let has_length = announced.is_some() || headers.contains_key(http::header::TRANSFER_ENCODING);
    let mut whole = Zeroizing::new(Vec::with_capacity(if has_length { capacity } else { 0 }));
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(mut data) = frame.map_err(|_| cut_off())?.into_data() else { continue };
            if whole.len() + data.remaining() > MAX_BODY_BYTES {
                return Ok(false);
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                whole.extend_from_slice(chunk);
                let length = chunk.len();
                data.advance(length);
            }
        }
        Ok(true)
    };
    let is_whole = timeout(BODY_TIMEOUT, reading).await.unwrap_or_else(|_| Err(cut_off()))?;
    if !is_whole {
        tokio::spawn(discard(body));
        return Err(too_long());
    }
    Ok(whole)
}

/// Takes what still comes of a body that was refused, while its answer leaves already: a client that sends all of it before
/// it reads would find its connection broken instead of the answer. A connection whose body is not taken to its end is
/// closed.
async fn discard(mut body: Incoming) {
    let mut left = MOST_DISCARDED_BYTES;
    while let Ok(Some(Ok(frame))) = timeout(DISCARD_PATIENCE, body.frame()).await {
        let length = frame.data_ref().map_or(0, Buf::remaining);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}
