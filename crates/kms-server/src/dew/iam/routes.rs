//! Where IAM's part is found, and how a password becomes a token.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, StatusCode, header::HOST};
use kms_core::{
    Error, SecretBytes,
    error::Unauthenticated,
    identity::{Caller, Credential, Stranger},
    ops::{IssueToken, ListProjects, Operation as _},
};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use super::{ProjectList, TokenAnswer, TokenRequest};
use crate::dew::{
    answer::{Answer, Fault, Form, Json, Reply as _},
    codes::Code,
    exchange::{Arrived, Rest},
    routes::{Bodiless, Row},
    token::Token,
};

/// The header of the answer that holds a token.
const SUBJECT_TOKEN: &str = "x-subject-token";

/// The operations of IAM that are offered. DEW: IAM's API, §1.3.
pub(in crate::dew) fn rows() -> Vec<Row> {
    let issue = |rest: Arc<Rest>, arrived: Arrived| async move { rest.issue_token(&arrived).await };
    let list = |rest: Arc<Rest>, arrived: Arrived| async move { rest.list_projects(&arrived).await };
    [Row::running(Method::POST, "/v3/auth/tokens", issue), Row::running(Method::GET, "/v3/projects", list)]
        .map(|row| row.told_as(Form::Iam))
        .into()
}

impl Rest {
    async fn issue_token(self: &Arc<Self>, arrived: &Arrived) -> Answer {
        let request = arrived.asked::<TokenRequest>().ok().map(|asked| Arc::new(asked.body));
        let login = request.as_ref().and_then(|request| request.login());
        let user = login.and_then(|login| self.gate.identities.now().user_named(login).cloned());
        let stranger = Stranger { source: arrived.source, credential: user.map(Credential::Password) };
        let body = Arc::new(Mutex::new(None));
        let (rest, answer, source) = (self.clone(), body.clone(), arrived.source);
        let identify = async move {
            let request = request.ok_or(Unauthenticated::CredentialMalformed);
            let request = request.map_err(Error::Unauthenticated)?;
            let (token, caller) = rest.log_in(request.clone(), source).await?;
            let text = rest.tokens.issue(&token)?.into_bytes();
            *answer.lock() =
                request.login().map(|login| TokenAnswer::new(&caller, login, token.issued, token.expires));
            Ok((caller, IssueToken { token: Arc::new(SecretBytes::new(text)) }))
        };
        let passed = self.gate.pass_when_known(arrived.request_id, stranger, identify).await;
        let body = body.lock().take();
        match (passed, body) {
            (Ok(recorded), Some(body)) => with_token(body, &recorded.into_inner()),
            (Ok(_), None) => unexplained().answer(arrived.form, arrived.request_id),
            (Err(refused), _) => arrived.refused(refused.error(), &fault(refused.error())),
        }
    }

    /// The token of a user who gives the right password. Only so many passwords are checked at a time, so that logging
    /// in takes no processor from the other calls; the check goes to its end also when its client has gone.
    async fn log_in(&self, request: Arc<TokenRequest>, source: SocketAddr) -> Result<(Token, Caller), Error> {
        let malformed = Error::Unauthenticated(Unauthenticated::CredentialMalformed);
        let login = request.login().ok_or(malformed.clone())?;
        let waiting = self.door.enter(login, self.gate.clock.monotonic()).map_err(Error::Throttled)?;
        let closed = Error::Internal { detail: "no password is checked any more" };
        let (guess, turn) = self.door.turn(waiting).await.ok_or(closed)?;
        let (identities, now) = (self.gate.identities.now(), self.gate.clock.now());
        let check = spawn_blocking(move || {
            let _turn = turn;
            request.login().map(|login| identities.log_in(login, source, now))
        });
        let died = |_| Error::Internal { detail: "the check of a password died" };
        let checked = check.await.map_err(died)?.ok_or(malformed)?;
        // A wrong project is told to who gave the right password.
        if checked.as_ref().err() != Some(&Unauthenticated::PasswordWrong) {
            self.door.give_back(guess);
        }
        checked.map_err(Error::Unauthenticated)
    }

    async fn list_projects(&self, arrived: &Arrived) -> Answer {
        let parsed = arrived.asked::<Bodiless>();
        let parsed = parsed.map(|asked| (ListProjects, asked.parameter("name").map(str::to_owned)));
        let host = arrived.parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let endpoint = format!("{}://{host}", self.scheme);
        let list = |caller: &Caller,
                    name: Option<String>,
                    projects: <ListProjects as kms_core::ops::Operation>::Output| {
            Json(ProjectList::of(&caller.account, &projects, name.as_deref(), &endpoint)).answer()
        };
        self.pass(arrived, || parsed, list).await
    }
}

/// Status 201, with the token in its header. DEW: IAM's `POST /v3/auth/tokens`.
fn with_token(body: TokenAnswer, token: &SecretBytes) -> Answer {
    let mut answer = Json(body).answer();
    *answer.status_mut() = StatusCode::CREATED;
    // Base64 is always safe in a header.
    if let Ok(mut token) = HeaderValue::from_bytes(token.expose_secret()) {
        token.set_sensitive(true);
        answer.headers_mut().insert(SUBJECT_TOKEN, token);
    }
    answer
}

/// What is told who gets no token. Whether there is such a user is not.
fn fault(error: &Error) -> Fault {
    match error {
        Error::Unauthenticated(Unauthenticated::CredentialMalformed) => Fault::new(
            Code::JSON_INVALID,
            "the body has to name a user, its account and its password, by the method `password`",
        ),
        Error::Unauthenticated(Unauthenticated::PasswordWrong) => {
            Fault::new(Code::NOT_AUTHENTICATED, "The username or password is wrong.")
        }
        Error::Unauthenticated(Unauthenticated::UnknownProject) => {
            Fault::new(Code::PROJECT_MISMATCH, "the scope has to name a project of the user's account")
        }
        error => Fault::of(error, Code::of(error, IssueToken::NAME)),
    }
}

/// Nobody passes the gate for whom no token was made.
fn unexplained() -> Fault {
    Fault::new(Code::SERVICE_ERROR, "internal error")
}
