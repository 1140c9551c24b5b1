//! Buckets by names of hosts.

use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
};

/// The domains under which buckets have names of their own.
#[derive(Clone, Debug)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// The longest domain first: one may lie in another.
    pub(crate) fn new(domains: &[String]) -> Self {
        let mut domains: Vec<String> = domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Self(domains)
    }

    /// The bucket that a host's name says.
    pub(crate) fn bucket(&self, host: &str) -> Option<String> {
        let host = without_port(host).to_ascii_lowercase();
        if self.0.contains(&host) {
            return None;
        }
        let bucket = |domain: &String| host.strip_suffix(domain)?.strip_suffix('.');
        self.0.iter().find_map(bucket).map(str::to_owned)
    }
}

impl S3Host for Hosts {
    /// Every other name, and an address, is the gateway's own: the bucket stands in the path.
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let own = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => own.with_bucket(bucket),
            None => own,
        })
    }
}

/// A host's name without the port, which some clients leave out even where it is not the usual one.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_what_stands_before_a_domain() {
        let hosts = Hosts::new(&["localhost".to_owned(), "s3.Localhost".to_owned()]);
        for (host, bucket) in [
            ("localhost", None),
            ("localhost:7445", None),
            ("s3.localhost", None),
            ("127.0.0.1:80", None),
            ("[::1]:80", None),
            ("elsewhere", None),
            ("notlocalhost", None),
            ("b.localhost", Some("b")),
            ("B.localhost:7445", Some("b")),
            ("a.b.localhost", Some("a.b")),
            ("b.s3.localhost", Some("b")),
        ] {
            assert_eq!(hosts.bucket(host).as_deref(), bucket, "{host}");
        }
    }
}
