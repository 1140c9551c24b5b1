//! The table of operations: each is a method, a path, and two conversions.

use std::{future::Future, pin::Pin, sync::Arc};

use http::Method;
use kms_core::{Error, error::Field, identity::Caller, ops::Operation};
use matchit::Router;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    answer::{Answer, Fault, Form, Reply},
    codes::{Code, Unfit},
    exchange::{Arrived, Rest},
    forms::Scalar,
    json::Object,
    signature,
};

/// How many characters the serial of a request has. DEW: sequence, KMS.0206.
const SEQUENCE_CHARACTERS: usize = 36;

/// What a path or a query holds: names and values, decoded.
pub(super) type Parameters = Vec<(String, String)>;

type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Run = Box<dyn Fn(Arc<Rest>, Arrived) -> Running + Send + Sync>;

/// One operation.
pub(crate) struct Row {
    pub(super) method: Method,
    path: &'static str,
    /// In whose form it tells errors.
    pub(super) form: Form,
    run: Run,
}

impl Row {
    /// One that runs as this does.
    pub(super) fn running<F: Future<Output = Answer> + Send + 'static>(
        method: Method,
        path: &'static str,
        run: impl Fn(Arc<Rest>, Arrived) -> F + Send + Sync + 'static,
    ) -> Self {
        let run: Run = Box::new(move |rest, arrived| Box::pin(run(rest, arrived)));
        Self { method, path, form: Form::Kms, run }
    }

    /// The same, with errors in this form.
    pub(super) fn told_as(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Carries a request to its answer.
    pub(super) fn run(&self, rest: Arc<Rest>, arrived: Arrived) -> Running {
        (self.run)(rest, arrived)
    }
}

/// What a request asks for: its body, and what its path and query say.
pub(crate) struct Asked<B> {
    /// The body; an empty one is one without fields.
    pub body: B,
    parameters: Parameters,
}

impl<B> Asked<B> {
    /// The parameter of the path or the query with this name, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
impl<B: DeserializeOwned> Asked<B> {
    /// What this body asks for.
    #[allow(clippy::needless_pass_by_value, reason = "bodies are written where they are handed over")]
    pub(crate) fn of(body: serde_json::Value) -> Self {
        let Object(body) = serde_json::from_str(&body.to_string()).expect("it is of the operation's form");
        Self { body, parameters: Vec::new() }
    }

    /// The same with this parameter.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The body of a request that has none. Whatever comes is ignored.
pub(crate) struct Bodiless;

impl<'de> Deserialize<'de> for Bodiless {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// An operation: `parse` makes it of the request, `render` the answer of what it gives.
pub(super) fn row<B, O, R>(
    method: Method,
    path: &'static str,
    parse: fn(Asked<B>) -> Result<O, Unfit>,
    render: fn(&Caller, O::Output) -> R,
) -> Row
where
    B: DeserializeOwned + Send + 'static,
    O: Operation,
    R: Reply + 'static,
{
    keeping(
        method,
        path,
        move |asked| Ok((parse(asked)?, ())),
        move |(), caller, output| render(caller, output),
    )
}

/// The same where the answer also needs something of the request: `parse` gives it beside the operation.
pub(super) fn keeping<B, O, K, R>(
    method: Method,
    path: &'static str,
    parse: impl Fn(Asked<B>) -> Result<(O, K), Unfit> + Copy + Send + Sync + 'static,
    render: impl Fn(K, &Caller, O::Output) -> R + Copy + Send + Sync + 'static,
) -> Row
where
    B: DeserializeOwned + Send + 'static,
    O: Operation,
    K: Send + 'static,
    R: Reply + 'static,
{
    Row::running(method, path, move |rest, arrived| async move {
        let read = || arrived.asked::<B>().and_then(parse);
        let render = |caller: &Caller, kept, output| render(kept, caller, output).answer();
        rest.pass(&arrived, read, render).await
    })
}

/// All operations, found by path and method.
pub(crate) struct Table(Router<Vec<Row>>);

impl Table {
    /// Of these rows. A path that means the same as another is a defect that every start shows.
    pub(super) fn of(rows: Vec<Row>) -> Result<Self, matchit::InsertError> {
        let mut paths: Vec<(&str, Vec<Row>)> = Vec::new();
        for row in rows {
            match paths.iter_mut().find(|(path, _)| *path == row.path) {
                Some((_, rows)) => rows.push(row),
                None => paths.push((row.path, vec![row])),
            }
        }
        let mut router = Router::new();
        for (path, rows) in paths {
            router.insert(path, rows)?;
        }
        Ok(Self(router))
    }

    /// The operation at this path, and the parameters that the path holds, decoded.
    pub(super) fn find(&self, method: &Method, path: &str) -> Result<(&Row, Parameters), Fault> {
        let unknown = |_| Fault::new(Code::API_NOT_FOUND, "The API does not exist or has not been published");
        let other_method = || Fault::new(Code::METHOD_NOT_SUPPORTED, "the URL is not called by this method");
        let no_text = || Fault::new(Code::URL_INVALID, "the URL is no UTF-8");
        let found = self.0.at(path).map_err(unknown)?;
        let row = found.value.iter().find(|row| row.method == *method).ok_or_else(other_method)?;
        let decoded = found.params.iter().map(|(name, value)| {
            let value = percent_decode_str(value).decode_utf8().ok()?;
            Some((name.to_owned(), value.into_owned()))
        });
        let decoded: Option<_> = decoded.collect();
        Ok((row, decoded.ok_or_else(no_text)?))
    }
}

impl Arrived {
    /// What the request asks for, if its body can be read. DEW: KMS.0202, KMS.0206.
    pub(super) fn asked<B: DeserializeOwned>(&self) -> Result<Asked<B>, Unfit> {
        #[derive(Deserialize)]
        struct Serial {
            sequence: Option<Scalar>,
        }
        let body = if self.body.is_empty() { b"{}" } else { &self.body[..] };
        let malformed =
            |_| Error::invalid(Field::Body, "must be a JSON object with the fields of the operation");
        let Object(Serial { sequence }) = serde_json::from_slice(body).map_err(malformed)?;
        if let Some(sequence) = sequence
            && sequence.as_str().chars().count() != SEQUENCE_CHARACTERS
        {
            return Err(Unfit::new(
                Code::SEQUENCE_INVALID,
                Field::Body,
                "must have a sequence of 36 characters",
            ));
        }
        let Object(body) = serde_json::from_slice(body).map_err(malformed)?;
        let mut parameters = self.parameters.clone();
        for (name, value) in signature::parameters(self.parts.uri.query().unwrap_or_default()) {
            let text = |bytes| String::from_utf8(bytes).ok();
            let pair = text(name).zip(text(value));
            parameters.push(pair.ok_or(Error::invalid(Field::Body, "must have a query of UTF-8"))?);
        }
        Ok(Asked { body, parameters })
    }
}
