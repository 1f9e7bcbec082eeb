//! What an agent says of the server it runs on (`mailkeep-agent detect`): one JSON object, written there, and checked by
//! the box before it is used.

use serde::{Deserialize, Serialize};

use crate::cyrus::Role;

/// A server as its agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detected {
    /// Its own name.
    pub hostname: String,
    /// The mail system, if one was found.
    pub cyrus: Option<DetectedCyrus>,
    /// What was looked for, in words.
    pub looked_for: String,
}

/// A Cyrus server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectedCyrus {
    /// Its imapd.conf.
    pub imapd_conf: String,
    /// Its cyrus.conf, if there is one.
    pub cyrus_conf: Option<String>,
    /// Whom its folders belong to.
    pub cyrus_user: String,
    /// Its version, where it could be found out.
    pub version: Option<String>,
    /// Its part in a Murder.
    pub role: Role,
    /// How mail would be stopped and started, in words; `None` if no way was found.
    pub quiesce: Option<String>,
    /// Why no way was found.
    pub quiesce_problem: Option<String>,
    /// Where mail greets, as a probe of the source file.
    pub probe: Option<String>,
    /// Its configuration with all that it names: what is worth a copy where there are no mailboxes.
    pub config_files: Vec<String>,
}

impl Detected {
    /// As it is sent: one line.
    ///
    /// # Errors
    /// None that text like this can cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Parses an answer; `None` if it is not one, or has letters in it that a name or path of a server has no use for.
    pub fn parse(answer: &[u8]) -> Option<Self> {
        let detected: Detected = serde_json::from_slice(answer).ok()?;
        let clean = |text: &str| text.len() <= 4096 && !text.chars().any(char::is_control);
        let mut texts = vec![&detected.hostname, &detected.looked_for];
        if let Some(cyrus) = &detected.cyrus {
            texts.extend([&cyrus.imapd_conf, &cyrus.cyrus_user]);
            let optional =
                [&cyrus.cyrus_conf, &cyrus.version, &cyrus.quiesce, &cyrus.quiesce_problem, &cyrus.probe];
            texts.extend(optional.into_iter().flatten());
            texts.extend(&cyrus.config_files);
        }
        texts.into_iter().all(|text| clean(text)).then_some(detected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_control_characters_or_more_than_that_is_none() {
        let good = r#"{"hostname":"m","cyrus":null,"looked_for":"x"}"#;
        assert_eq!(Detected::parse(good.as_bytes()).map(|d| d.hostname), Some("m".to_owned()));
        assert_eq!(Detected::parse(good.replace("\"m\"", "\"m\\u001b[2J\"").as_bytes()), None);
        assert_eq!(Detected::parse(good.replace("null", "null,\"more\":1").as_bytes()), None);
        assert_eq!(Detected::parse(b"Welcome to mail1!"), None);
    }
}
