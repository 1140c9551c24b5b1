//! Answers: JSON bodies, which may hold secrets, and the two forms of an error.

use std::{
    io::{self, Write},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use kms_core::{
    Error, RequestId,
    error::{Throttled, Window},
};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::codes::Code;

/// An answer that is whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What an operation answers when it succeeds.
pub(crate) trait Reply {
    /// The answer.
    fn answer(self) -> Answer;
}

/// Status 200 with a body.
pub(crate) struct Json<T>(pub T);

/// Status 200 without a body.
pub(crate) struct Nothing;

/// Status 204.
pub(crate) struct NoContent;

impl<T: Serialize> Reply for Json<T> {
    fn answer(self) -> Answer {
        json_answer(StatusCode::OK, &self.0)
    }
}

impl Reply for Nothing {
    fn answer(self) -> Answer {
        Answer::default()
    }
}

impl Reply for NoContent {
    fn answer(self) -> Answer {
        let mut answer = Answer::default();
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }
}

/// In whose form errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In that of KMS, or of the gateway in front of it where that would tell it.
    Kms,
    /// In those of IAM, both of them: clients read one or the other.
    Iam,
}

/// An error, as DEW tells it.
#[derive(Debug)]
pub(crate) struct Fault {
    code: Code,
    message: String,
    /// In whole seconds.
    retry_after: Option<u64>,
}

impl Fault {
    /// With a message of its own.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The domain's error under this code.
    // The texts are ours, as those of gRPC: DEW's differ from language to language, and no client goes by them. That of
    // the gateway's throttling is the exception: clients do read it.
    pub(crate) fn of(error: &Error, code: Code) -> Self {
        match error {
            Error::Throttled(throttled) => Self {
                retry_after: Some(whole_seconds(throttled.retry_after)),
                ..Self::new(code, throttling(throttled))
            },
            error => Self::new(code, error.to_string()),
        }
    }

    /// What DEW calls it.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Its answer. DEW: §1.4, the forms of KMS and of the gateway in front of it; IAM's API, status codes.
    pub(crate) fn answer(&self, form: Form, request_id: RequestId) -> Answer {
        let status = StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (code, message) = (self.code.number, &self.message);
        let body = match form {
            Form::Kms if self.code.is_gateways() => {
                json!({"error_msg": message, "error_code": code, "request_id": request_id})
            }
            Form::Kms => json!({"error": {"error_code": code, "error_msg": message}}),
            Form::Iam => {
                let title = status.canonical_reason().unwrap_or_default();
                let error = json!({"code": status.as_u16(), "message": message, "title": title});
                json!({"error": error, "error_code": code, "error_msg": message})
            }
        };
        let mut answer = json_answer(status, &body);
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// At least one, and never too few.
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

/// DEW: §6, `APIGW.0308`.
fn throttling(throttled: &Throttled) -> String {
    let policy = match throttled.subject.split(':').next() {
        Some("user" | "account") => "user",
        _ => "api",
    };
    let unit = match throttled.window {
        Window::Second => "second",
        Window::Minute => "minute",
        Window::Day => "day",
    };
    let limit = throttled.limit;
    format!(
        "The throttling threshold has been reached: policy {policy} over ratelimit,limit:{limit},time:1 {unit}"
    )
}

fn json_answer(status: StatusCode, body: &impl Serialize) -> Answer {
    let mut text = WipedText::default();
    // What is answered has no map whose keys are no texts, and a buffer takes everything.
    let written = serde_json::to_writer(&mut text, body).is_ok();
    let mut answer = Response::new(Full::new(if written { text.into_bytes() } else { Bytes::new() }));
    *answer.status_mut() = if written { status } else { StatusCode::INTERNAL_SERVER_ERROR };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A growing text that leaves no copy of itself behind.
struct WipedText(Zeroizing<Vec<u8>>);

impl Default for WipedText {
    fn default() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(1024)))
    }
}

impl WipedText {
    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.0)
    }
}

impl Write for WipedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger; // the smaller one is wiped
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    async fn read(answer: Answer) -> (u16, Option<String>, Value) {
        let retry = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("text").to_owned());
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("it is whole").to_bytes();
        (status, retry, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn errors_have_the_form_of_who_would_tell_them() {
        let answer = Fault::of(&Error::KeyNotFound, Code::KEY_NOT_FOUND).answer(Form::Kms, Uuid::nil());
        let body = json!({"error": {"error_code": "KMS.0207", "error_msg": "the key does not exist"}});
        assert_eq!(read(answer).await, (404, None, body));
        let throttled = Throttled {
            subject: "user:u1".to_owned(),
            group: "life-cycle".into(),
            limit: 20,
            window: Window::Second,
            retry_after: Duration::from_millis(50),
        };
        let answer = Fault::of(&Error::Throttled(throttled), Code::THROTTLED).answer(Form::Kms, Uuid::nil());
        let text =
            "The throttling threshold has been reached: policy user over ratelimit,limit:20,time:1 second";
        let body = json!({
            "error_code": "APIGW.0308", "error_msg": text, "request_id": "00000000-0000-0000-0000-000000000000",
        });
        assert_eq!(read(answer).await, (429, Some("1".to_owned()), body));
        let answer = Fault::new(Code::NOT_AUTHENTICATED, "no").answer(Form::Iam, Uuid::nil());
        let body = json!({
            "error": {"code": 401, "message": "no", "title": "Unauthorized"},
            "error_code": "APIGW.0301", "error_msg": "no",
        });
        assert_eq!(read(answer).await, (401, None, body));
    }

    #[tokio::test]
    async fn a_long_body_is_whole() {
        let long = "x".repeat(100_000);
        let (status, _, body) = read(Json(json!([long, "\u{0}"])).answer()).await;
        assert_eq!((status, body), (200, json!([long, "\u{0}"])));
    }
}
