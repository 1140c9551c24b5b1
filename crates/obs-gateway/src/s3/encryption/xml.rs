//! The configuration of a bucket's encryption in XML, as OBS and S3 write it.

use quick_xml::de::from_str;
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    format::Suite,
    obs::Dialect,
    s3::errors::{not_offered, s3},
    sse::{Asked, method},
    store::BucketEncryption,
};

/// The longest id of a project, in characters.
const LONGEST_PROJECT: usize = 64;

/// The root, by its name.
#[derive(Deserialize)]
enum Root {
    ServerSideEncryptionConfiguration(Configuration),
}

// OBS: also KMSDataEncryption, ProjectID (older) and BucketKeyRotationPeriod, which S3 does not know.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename = "ServerSideEncryptionConfiguration")]
struct Configuration {
    #[serde(rename = "@xmlns", skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(rename = "Rule")]
    rules: Vec<Rule>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Rule {
    apply_server_side_encryption_by_default: Default,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket_key_enabled: Option<bool>,
    #[serde(skip_serializing)]
    bucket_key_rotation_period: Option<IgnoredAny>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Default {
    #[serde(rename = "SSEAlgorithm")]
    mode: String,
    #[serde(rename = "KMSDataEncryption", skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    #[serde(rename = "KMSMasterKeyID", skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(rename = "ProjectID", skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(rename = "BucketKeyRotationPeriod", skip_serializing)]
    bucket_key_rotation_period: Option<IgnoredAny>,
}

/// Reads a configuration. In each dialect, all elements of both are read, and both names of the mode.
pub(super) fn parse(text: &str) -> S3Result<BucketEncryption> {
    // As a list, so that what stands behind the root is read, too.
    let roots: Vec<Root> = from_str(text).map_err(|error| s3_error!(MalformedXML, "{error}"))?;
    let Ok([Root::ServerSideEncryptionConfiguration(Configuration { rules, .. })]) =
        <[Root; 1]>::try_from(roots)
    else {
        return Err(s3_error!(MalformedXML, "one configuration is wanted"));
    };
    let Ok([rule]) = <[Rule; 1]>::try_from(rules) else {
        return Err(s3_error!(MalformedXML, "one rule is wanted"));
    };
    let Default { mode, algorithm, key, project, bucket_key_rotation_period } =
        rule.apply_server_side_encryption_by_default;
    if rule.bucket_key_rotation_period.or(bucket_key_rotation_period).is_some() {
        // It would be days, and no bucket key lives for an hour.
        return Err(not_offered("a period of rotation of bucket keys"));
    }
    let asked = Asked {
        mode: Some(mode),
        key: key.filter(|key| !key.is_empty()),
        algorithm: algorithm.filter(|algorithm| !algorithm.is_empty()),
        bucket_key: rule.bucket_key_enabled,
        ..Asked::default()
    };
    let chosen = method(&asked, None, None).map_err(s3)?;
    let chosen = chosen.ok_or_else(|| s3_error!(MalformedXML, "the rule has no mode"))?;
    let project = project.filter(|project| !project.is_empty());
    let project = project.map(|text| self::project(&text)).transpose()?;
    Ok(BucketEncryption { suite: chosen.suite, key: asked.key, bucket_key: chosen.bucket_key, project })
}

/// A project's id, if it can be one.
// OBS: the project that the key belongs to.
pub(in crate::s3) fn project(text: &str) -> S3Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_id = (1..=LONGEST_PROJECT).contains(&text.len()) && text.bytes().all(allowed);
    let id = is_id.then(|| text.to_owned());
    id.ok_or_else(|| s3_error!(InvalidArgument, "this is not a project's id"))
}

/// Writes a configuration in the words of a dialect. S3 is not told of AES-256, for which it has no word.
pub(super) fn write(
    encryption: &BucketEncryption,
    dialect: Option<Dialect>,
    region: &str,
) -> Result<String, S3Error> {
    let is_obs = dialect == Some(Dialect::Obs);
    let BucketEncryption { suite, key, bucket_key, project } = encryption.clone();
    let (namespace, mode) = if is_obs {
        (format!("http://obs.{region}.myhuaweicloud.com/doc/2015-06-30/"), "kms")
    } else {
        ("http://s3.amazonaws.com/doc/2006-03-01/".to_owned(), "aws:kms")
    };
    let default = Default {
        mode: mode.to_owned(),
        algorithm: (is_obs || suite != Suite::default()).then(|| suite.name().to_owned()),
        key,
        project,
        bucket_key_rotation_period: None,
    };
    let rule = Rule {
        apply_server_side_encryption_by_default: default,
        bucket_key_enabled: Some(bucket_key),
        bucket_key_rotation_period: None,
    };
    let configuration = Configuration { namespace: Some(namespace), rules: vec![rule] };
    let written = quick_xml::se::to_string(&configuration);
    let written = written.map_err(|error| s3_error!(InternalError, "{error}"))?;
    Ok(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{written}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    fn configuration(default: &str, rule: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<ServerSideEncryptionConfiguration xmlns=\"x\">\n  <Rule>\n    \
             <ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault>\n{rule}  </Rule>\n\
             </ServerSideEncryptionConfiguration>"
        )
    }

    #[test]
    fn what_is_put_is_got_in_either_dialect() {
        for mode in ["kms", "aws:kms"] {
            for suite in [Suite::Aes256Gcm, Suite::Sm4Gcm] {
                for (key, project) in [(None, None), (Some(KEY), None), (Some(KEY), Some("p-1"))] {
                    for bucket_key in [false, true] {
                        let element = |name: &str, value: Option<&str>| {
                            value.map_or_else(String::new, |value| format!("<{name}>{value}</{name}>"))
                        };
                        let default = [
                            element("KMSMasterKeyID", key),
                            element("SSEAlgorithm", Some(mode)),
                            element("ProjectID", project),
                            element("KMSDataEncryption", Some(suite.name())),
                        ];
                        let rule = element("BucketKeyEnabled", Some(&bucket_key.to_string()));
                        let read = parse(&configuration(&default.concat(), &rule)).unwrap();
                        let (key, project) = (key.map(str::to_owned), project.map(str::to_owned));
                        assert_eq!(read, BucketEncryption { suite, key, bucket_key, project });
                        for dialect in [None, Some(Dialect::V2), Some(Dialect::Obs)] {
                            assert_eq!(parse(&write(&read, dialect, "r1").unwrap()).unwrap(), read);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn each_dialect_has_its_words() {
        let encryption = BucketEncryption {
            suite: Suite::Aes256Gcm,
            key: Some("a&b".to_owned()),
            bucket_key: true,
            project: Some("p".to_owned()),
        };
        let obs = write(&encryption, Some(Dialect::Obs), "r1").unwrap();
        assert_eq!(
            obs.lines().nth(1),
            Some(
                "<ServerSideEncryptionConfiguration xmlns=\"http://obs.r1.myhuaweicloud.com/doc/2015-06-30/\">\
                 <Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>kms</SSEAlgorithm>\
                 <KMSDataEncryption>AES256</KMSDataEncryption><KMSMasterKeyID>a&amp;b</KMSMasterKeyID>\
                 <ProjectID>p</ProjectID></ApplyServerSideEncryptionByDefault>\
                 <BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
            )
        );
        let s3 = write(&BucketEncryption { project: None, ..encryption }, None, "r1").unwrap();
        assert!(s3.contains("xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""), "{s3}");
        assert!(s3.contains("<SSEAlgorithm>aws:kms<") && !s3.contains("KMSDataEncryption"), "{s3}");
    }

    #[test]
    fn what_is_left_out_or_empty_is_the_default() {
        let kms = "<SSEAlgorithm>kms</SSEAlgorithm>";
        let empty = "<KMSMasterKeyID></KMSMasterKeyID><ProjectID/><KMSDataEncryption/>";
        for default in [kms.to_owned(), format!("{kms}{empty}")] {
            assert_eq!(parse(&configuration(&default, "")).unwrap(), BucketEncryption::default());
        }
    }

    #[test]
    fn what_is_unknown_wrong_or_not_offered_is_refused() {
        let kms = "<SSEAlgorithm>kms</SSEAlgorithm>";
        let refused = |default: &str, rule: &str| {
            let refused = parse(&configuration(default, rule)).unwrap_err();
            refused.code().as_str().to_owned()
        };
        for (more, rule, code) in [
            ("<KMSDataEncryption>DES</KMSDataEncryption>", "", "InvalidArgument"),
            ("<KMSMasterKeyID>nonsense</KMSMasterKeyID>", "", "InvalidArgument"),
            ("<ProjectID>a/b</ProjectID>", "", "InvalidArgument"),
            ("<Unknown>1</Unknown>", "", "MalformedXML"),
            ("text", "", "MalformedXML"),
            (kms, "", "MalformedXML"),
            ("", "<BucketKeyEnabled>perhaps</BucketKeyEnabled>", "MalformedXML"),
            ("", "<Unknown/>", "MalformedXML"),
            ("", "<BucketKeyRotationPeriod>365</BucketKeyRotationPeriod>", "NotImplemented"),
            ("<BucketKeyRotationPeriod>365</BucketKeyRotationPeriod>", "", "NotImplemented"),
        ] {
            assert_eq!(refused(&format!("{kms}{more}"), rule), code, "{more}{rule}");
        }
        assert_eq!(refused("<SSEAlgorithm>AES256</SSEAlgorithm>", ""), "NotImplemented");
        assert_eq!(refused("", ""), "MalformedXML");
        let two = configuration(kms, "").replace("</Rule>", "</Rule><Rule/>");
        let other = configuration(kms, "").replace("SideEncryption", "SideEncryptions");
        let [behind, twice] = ["text", &configuration(kms, "")].map(|more| configuration(kms, "") + more);
        for text in ["", "<", "<a/>", &two, &other, &behind, &twice, "<ServerSideEncryptionConfiguration/>"] {
            assert_eq!(parse(text).unwrap_err().code().as_str(), "MalformedXML", "{text}");
        }
        for blank in ["\n", " \n<!-- a comment -->\n"] {
            assert!(parse(&(configuration(kms, "") + blank)).is_ok(), "{blank}");
        }
        assert_eq!(project(&"p".repeat(LONGEST_PROJECT)).unwrap().len(), LONGEST_PROJECT);
        assert!(project(&"p".repeat(LONGEST_PROJECT + 1)).is_err());
    }
}
