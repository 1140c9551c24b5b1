//! Answers in the words of whoever asks: what names the request, errors, and bodies of OBS.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};
use quick_xml::{
    Reader, Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};
use s3s::{Body, HttpResponse};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Dialect, host, is_bucket, query, words};
use crate::s3::Hosts;

/// What begins a body.
const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;

/// What all answers of a gateway have in common.
#[derive(Clone, Debug)]
pub(crate) struct Replies {
    /// Names the process that answers.
    host_id: Arc<str>,
    /// What the elements of OBS' bodies belong to.
    namespace: Arc<str>,
}

/// What is known of a request that its answer has to say.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    replies: Replies,
    request_id: RequestId,
    dialect: Option<Dialect>,
    resource: String,
    reads_object: bool,
}

/// Names a request, in answers and in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId(Uuid);

/// The body of an error.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "Error", rename_all = "PascalCase")]
struct Fault {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    host_id: String,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}", self.0.simple())
    }
}

impl Replies {
    /// Those of one process, for buckets of a region.
    pub(crate) fn new(region: &str) -> Self {
        let (first, second) = (Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes());
        let host_id = STANDARD.encode([first, second].concat());
        // OBS: the namespace of all bodies.
        let namespace = format!("http://obs.{region}.myhuaweicloud.com/doc/2015-06-30/");
        Self { host_id: host_id.into(), namespace: namespace.into() }
    }

    /// What the answer to a request will say; before the request is put into other words.
    pub(crate) fn to(&self, head: &Parts, hosts: &Hosts) -> Reply {
        let path = head.uri.path();
        let is_bucket = is_bucket(head, hosts);
        let resource = match hosts.bucket(host(head)) {
            Some(bucket) if is_bucket => format!("/{bucket}"),
            Some(bucket) => format!("/{bucket}{path}"),
            None if is_bucket => path.trim_end_matches('/').to_owned(),
            None => path.to_owned(),
        };
        let is_object = path != "/" && !is_bucket;
        // The parts of an upload are listed by a GET of the object that they become.
        let reads_object = is_object && head.method == Method::GET && query(&head.uri, "uploadId").is_none();
        Reply {
            replies: self.clone(),
            request_id: RequestId(Uuid::new_v4()),
            dialect: Dialect::of(&head.uri, &head.headers),
            resource,
            reads_object,
        }
    }
}

impl Reply {
    /// The request's name.
    pub(crate) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// An answer of the S3 face, or a refusal before it, in the words of the request.
    pub(crate) fn put(&self, mut answer: HttpResponse) -> HttpResponse {
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            self.put_error(&mut answer);
        } else if self.is_obs() && !self.reads_object {
            self.put_body(&mut answer);
        }
        if self.is_obs() {
            words::to_obs(answer.headers_mut());
        }
        self.put_names(answer.headers_mut());
        answer
    }

    /// What is answered to the question for the version of the protocol, which is asked before any signature.
    // OBS: SDKs look for x-obs-api of at least 3.0, or else speak S3's version 2.
    pub(crate) fn version(mut self) -> HttpResponse {
        self.dialect = Some(Dialect::Obs);
        let mut answer = HttpResponse::new(Body::empty());
        answer.headers_mut().insert("x-obs-api", HeaderValue::from_static("3.0"));
        self.put(answer)
    }

    fn is_obs(&self) -> bool {
        self.dialect == Some(Dialect::Obs)
    }

    fn put_names(&self, headers: &mut HeaderMap) {
        let (request, host) = match self.dialect {
            Some(Dialect::Obs) => ("x-obs-request-id", "x-obs-id-2"),
            Some(Dialect::V2) | None => ("x-amz-request-id", "x-amz-id-2"),
        };
        let request_id = self.request_id.to_string();
        for (name, value) in [(request, &*request_id), (host, &*self.replies.host_id)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// Completes an error. An answer to HEAD has no body: OBS tells the error in headers, too.
    fn put_error(&self, answer: &mut HttpResponse) {
        let body = answer.body().bytes().unwrap_or_default();
        let Ok(mut fault) = quick_xml::de::from_reader::<_, Fault>(&*body) else { return };
        if fault.message.is_empty() {
            fault.message.clone_from(&fault.code);
        }
        if self.is_obs() {
            fault.code = words::code_to_obs(&fault.code).to_owned();
            for (name, value) in [("x-obs-error-code", &fault.code), ("x-obs-error-message", &fault.message)]
            {
                if let Ok(value) = HeaderValue::from_str(value) {
                    answer.headers_mut().insert(HeaderName::from_static(name), value);
                }
            }
        }
        fault.resource.clone_from(&self.resource);
        fault.request_id = self.request_id.to_string();
        fault.host_id = self.replies.host_id.to_string();
        if let Ok(text) = quick_xml::se::to_string(&fault) {
            replace(answer, format!("{DECLARATION}{text}").into_bytes());
        }
    }

    fn put_body(&self, answer: &mut HttpResponse) {
        let is_xml = answer.headers().get(CONTENT_TYPE).is_some_and(|it| it == "application/xml");
        let body = answer.body().bytes().filter(|body| is_xml && !body.is_empty());
        let Some(body) = body else { return };
        match to_obs(&body, &self.replies.namespace) {
            Ok(body) => replace(answer, body),
            Err(error) => tracing::error!(%error, "an answer cannot be put into the words of OBS"),
        }
    }
}

fn replace(answer: &mut HttpResponse, body: Vec<u8>) {
    answer.headers_mut().remove(CONTENT_LENGTH);
    *answer.body_mut() = Body::from(body);
}

/// A refusal before the S3 face.
pub(crate) fn refusal(error: s3s::S3Error) -> HttpResponse {
    error.to_http_response().unwrap_or_else(|_| {
        let mut answer = HttpResponse::new(Body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

/// A body of S3 in the words of OBS.
fn to_obs(body: &[u8], namespace: &str) -> quick_xml::Result<Vec<u8>> {
    let mut reader = Reader::from_reader(body);
    reader.config_mut().expand_empty_elements = true;
    let mut writer = Writer::new(Vec::with_capacity(body.len()));
    let mut open: Vec<String> = Vec::new();
    loop {
        let event = reader.read_event()?;
        match event {
            Event::Eof => return Ok(writer.into_inner()),
            Event::Start(start) => {
                let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
                let name = words::element_to_obs(&name, open.is_empty()).to_owned();
                let mut element = BytesStart::new(name.as_str());
                if open.is_empty() {
                    element.push_attribute(("xmlns", namespace));
                }
                writer.write_event(Event::Start(element))?;
                open.push(name);
            }
            Event::Text(text) => {
                let text = text.decode()?;
                let text = words::text_to_obs(open.last().map_or("", String::as_str), &text);
                writer.write_event(Event::Text(BytesText::from_escaped(text)))?;
            }
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                writer.write_event(Event::End(BytesEnd::new(name.as_str())))?;
                // OBS: what kind each bucket of a list is; this store has but one.
                if name == "Location" && open.last().is_some_and(|parent| parent == "Bucket") {
                    writer.create_element("BucketType").write_text_content(BytesText::new("OBJECT"))?;
                }
            }
            other => writer.write_event(other)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use s3s::s3_error;

    use super::*;

    fn reply(method: Method, uri: &str, authorization: &str) -> Reply {
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.header("authorization", authorization).body(()).unwrap();
        Replies::new("r1").to(&request.into_parts().0, &Hosts::new(&[]))
    }

    fn text(answer: &HttpResponse) -> String {
        String::from_utf8(answer.body().bytes().unwrap().to_vec()).unwrap()
    }

    fn xml(body: &str) -> HttpResponse {
        let mut answer = HttpResponse::new(Body::from(body.to_owned()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        answer
    }

    #[test]
    fn every_answer_names_its_request_and_who_answers() {
        for (authorization, names) in [
            ("OBS AK:s", ["x-obs-request-id", "x-obs-id-2"]),
            ("AWS AK:s", ["x-amz-request-id", "x-amz-id-2"]),
            ("AWS4-HMAC-SHA256 x", ["x-amz-request-id", "x-amz-id-2"]),
        ] {
            let reply = reply(Method::GET, "/b/o", authorization);
            let answer = reply.put(HttpResponse::new(Body::empty()));
            assert_eq!(answer.headers()[names[0]].to_str().unwrap(), reply.request_id().to_string());
            assert_eq!(answer.headers()[names[0]].len(), 32);
            assert_eq!(answer.headers()[names[1]].to_str().unwrap(), &*reply.replies.host_id);
            assert_eq!(answer.headers().len(), 2, "{authorization}");
        }
    }

    #[test]
    fn an_error_says_what_it_is_about_in_the_words_of_who_asked() {
        let error = || {
            let mut error = s3_error!(ServerSideEncryptionConfigurationNotFoundError, "a < b");
            error.set_status_code(StatusCode::NOT_FOUND);
            refusal(error)
        };
        for (authorization, code, headers) in [
            ("OBS AK:s", "NoSuchEncryptionConfiguration", true),
            ("AWS AK:s", "ServerSideEncryptionConfigurationNotFoundError", false),
        ] {
            let reply = reply(Method::GET, "/b?encryption", authorization);
            let answer = reply.put(error());
            let (id, host) = (reply.request_id(), &reply.replies.host_id);
            let expected = format!(
                "{DECLARATION}<Error><Code>{code}</Code><Message>a &lt; b</Message><Resource>/b</Resource>\
                 <RequestId>{id}</RequestId><HostId>{host}</HostId></Error>"
            );
            assert_eq!((answer.status(), text(&answer)), (StatusCode::NOT_FOUND, expected));
            assert_eq!(answer.headers().get("x-obs-error-code").is_some_and(|it| it == code), headers);
            assert_eq!(answer.headers().contains_key("x-obs-error-message"), headers);
        }
        let answer = reply(Method::HEAD, "/b/o", "OBS AK:s").put(refusal(s3_error!(NotImplemented)));
        assert_eq!(answer.headers()["x-obs-error-code"], "ServiceNotImplemented");
        assert!(text(&answer).contains("<Message>NotImplemented</Message>"));
    }

    #[test]
    fn what_an_error_is_about_is_named_alike_however_it_was_asked_for() {
        for (uri, resource) in [("/b", "/b"), ("/b/", "/b"), ("/b/o/", "/b/o/"), ("/", "/")] {
            let answer = reply(Method::GET, uri, "OBS AK:s").put(refusal(s3_error!(NoSuchBucket)));
            assert!(text(&answer).contains(&format!("<Resource>{resource}</Resource>")), "{uri}");
        }
    }

    #[test]
    fn bodies_are_in_the_words_of_obs_on_its_face_alone() {
        let location =
            r#"<?xml version="1.0"?><LocationConstraint xmlns="http://s3/">r1</LocationConstraint>"#;
        let obs = |uri, body| text(&reply(Method::GET, uri, "OBS AK:s").put(xml(body)));
        let namespace = r#"xmlns="http://obs.r1.myhuaweicloud.com/doc/2015-06-30/""#;
        let expected = format!(r#"<?xml version="1.0"?><Location {namespace}>r1</Location>"#);
        assert_eq!(obs("/b?location", location), expected);
        assert_eq!(text(&reply(Method::GET, "/b?location", "AWS AK:s").put(xml(location))), location);
        let buckets = "<A><Bucket><BucketRegion>r1</BucketRegion><Name>b &amp; c</Name></Bucket></A>";
        let expected = format!(
            "<A {namespace}><Bucket><Location>r1</Location><BucketType>OBJECT</BucketType>\
             <Name>b &amp; c</Name></Bucket></A>"
        );
        assert_eq!(obs("/", buckets), expected);
        let rule = "<A><SSEAlgorithm>aws:kms</SSEAlgorithm><Key>aws:kms</Key><Empty/>\
                    <KMSMasterKeyID>arn:aws:kms:r1:d1:key/id</KMSMasterKeyID></A>";
        let expected = format!(
            "<A {namespace}><SSEAlgorithm>kms</SSEAlgorithm><Key>aws:kms</Key><Empty></Empty>\
             <KMSMasterKeyID>r1:d1:key/id</KMSMasterKeyID></A>"
        );
        assert_eq!(obs("/b?encryption", rule), expected);
        assert_eq!(obs("/b/o?uploadId=x", rule), expected);
    }

    #[test]
    fn an_object_is_answered_as_it_is() {
        let own = "<A><SSEAlgorithm>aws:kms</SSEAlgorithm></A>";
        assert_eq!(text(&reply(Method::GET, "/b/o", "OBS AK:s").put(xml(own))), own);
        let policy = r#"{"Statement":["<a></a>"]}"#;
        let answer = HttpResponse::new(Body::from(policy.to_owned()));
        assert_eq!(text(&reply(Method::GET, "/b?policy", "OBS AK:s").put(answer)), policy);
    }
}
