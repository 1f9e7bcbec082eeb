//! What is in a message: text as people write it, with signatures, quoted answers and HTML twins, and attachments.
//!
//! Tuned until `zstd -3` shrinks files under 32 KB as it shrinks real mail: alone 2.28, grouped by 128 KiB 2.92, by 1 MiB
//! 3.25, by 4 MiB 3.38; and base64 parts to about two thirds.

use mailkeep_tests::mime::{self, Letter};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::words::Words;

/// Share of mails that say it all twice, as text and as HTML.
const WITH_HTML: f64 = 0.38;
/// Share of mails that quote what was said before in their folder.
const QUOTING: f64 = 0.20;
/// Longest quotation, bytes.
const QUOTED_MAX: usize = 6_000;
/// Share of mails that end with a signature.
const SIGNED: f64 = 0.4;
/// Share of attachments that are plain enough to shrink; documents and pictures are compressed already.
const PLAIN_ATTACHMENT: f64 = 0.17;
/// Median size of an attachment before base64, bytes, and the sigma of its log-normal distribution: 1.35 was measured, but
/// without the tail beyond a few megabytes; 1.28 and the cap give that spool's sum and its 99th percentile.
const ATTACHMENT: (f64, f64) = (57_000.0, 1.28);
/// Largest attachment, bytes.
const ATTACHMENT_MAX: usize = 3_000_000;

/// An attachment, made again from its seed whenever it is sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attachment {
    seed: u64,
    len: usize,
    plain: bool,
}

impl Attachment {
    /// A new one.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let len = (log_normal(rng, ATTACHMENT) as usize).clamp(2_000, ATTACHMENT_MAX);
        Attachment { seed: rng.next_u64(), len, plain: rng.chance(PLAIN_ATTACHMENT) }
    }

    /// One of this length that does not shrink.
    pub(crate) fn of_len(seed: u64, len: usize) -> Self {
        Attachment { seed, len, plain: false }
    }

    fn bytes(self, words: &Words) -> Vec<u8> {
        let mut rng = Rng::new(self.seed);
        if self.plain {
            let mut bytes = Vec::with_capacity(self.len + 100);
            words.text(&mut rng, self.len, &mut bytes);
            return bytes;
        }
        let mut bytes = vec![0u8; self.len];
        rng.fill(&mut bytes);
        bytes
    }
}

/// Writes messages.
pub(crate) struct Author {
    words: Words,
    /// Ends of mails, one for each of the people who write.
    signatures: Vec<Vec<u8>>,
}

impl Author {
    /// The people who write to each other in a spool of this seed.
    pub(crate) fn new(seed: u64, people: usize) -> Self {
        let words = Words::new(seed, 20_000);
        let mut rng = Rng::new(seed ^ 0x7369_676e);
        let signatures = (0..people.max(1))
            .map(|_| {
                let mut signature = b"-- \r\n".to_vec();
                let len = 80 + rng.index(500);
                words.text(&mut rng, len, &mut signature);
                signature
            })
            .collect();
        Author { words, signatures }
    }

    /// The text of a mail of about `len` bytes by a random person. It quotes `before`, and `before` is what it says then.
    pub(crate) fn text(&self, rng: &mut Rng, len: usize, before: &mut Vec<u8>) -> Vec<u8> {
        let signature = if rng.chance(SIGNED) { &rng.pick(&self.signatures)[..] } else { &[] };
        let mut text = Vec::with_capacity(len + 200);
        let quoted = if rng.chance(QUOTING) { before.len().min(len / 2).min(QUOTED_MAX) } else { 0 };
        let own = len.saturating_sub(signature.len() + quoted).max(60);
        self.words.text(rng, own, &mut text);
        let said = text.clone();
        for line in before[..quoted].split_inclusive(|&byte| byte == b'\n') {
            text.extend_from_slice(b"> ");
            text.extend_from_slice(line);
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(signature);
        *before = said;
        text
    }

    /// The parts of a mail with about `len` bytes of text: its body from the `Content-Type` line on.
    pub(crate) fn body(
        &self,
        rng: &mut Rng,
        len: usize,
        before: &mut Vec<u8>,
        attachment: Option<Attachment>,
    ) -> Vec<u8> {
        let html = rng.chance(WITH_HTML);
        let text = self.text(rng, if html { len * 2 / 5 } else { len }, before);
        let boundary = format!("=_{:016x}", rng.next_u64());
        let mut out = Vec::with_capacity(len + attachment.map_or(0, |a| a.len * 78 / 57) + 1_000);
        match attachment {
            Some(_) => {
                let head =
                    format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n");
                out.extend_from_slice(head.as_bytes());
            }
            None if html => {
                let head = format!(
                    "Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n"
                );
                out.extend_from_slice(head.as_bytes());
            }
            None => {}
        }
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n\r\n");
        out.extend_from_slice(&text);
        if html {
            let head = format!("--{boundary}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n");
            out.extend_from_slice(head.as_bytes());
            as_html(&text, &mut out);
        }
        if let Some(attachment) = attachment {
            let name = self.words.word(rng);
            let part = format!(
                "--{boundary}\r\nContent-Type: application/octet-stream; name=\"{name}.bin\"\r\n\
                 Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"{name}.bin\"\r\n\r\n"
            );
            out.extend_from_slice(part.as_bytes());
            mime::base64_body(&attachment.bytes(&self.words), &mut out);
        }
        if html || attachment.is_some() {
            out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        }
        out
    }

    /// A whole message: headers of its own for this user, then `body` as [`Author::body`] gave it.
    pub(crate) fn message(&self, rng: &mut Rng, user: usize, body: &[u8]) -> Vec<u8> {
        let letter = Letter {
            from: format!("{}.{}", self.words.word(rng), self.words.word(rng)),
            to: format!("user{user}"),
            date: 1_600_000_000 + rng.below(100_000_000) as i64,
            text: 0,
            attachments: Vec::new(),
        };
        let mut out = Vec::with_capacity(body.len() + 1_500);
        letter.headers(&self.words, rng, &mut out);
        out.extend_from_slice(body);
        out
    }
}

fn as_html(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"<html><head><meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\"></head>\
          <body style=\"font-family: Calibri, sans-serif; font-size: 11pt\">\r\n<div class=\"WordSection1\">\r\n",
    );
    for paragraph in String::from_utf8_lossy(text).split("\r\n\r\n") {
        out.extend_from_slice(b"<p class=\"MsoNormal\"><span lang=\"EN-GB\">");
        out.extend_from_slice(paragraph.replace("\r\n", "<br>\r\n").as_bytes());
        out.extend_from_slice(b"</span></p>\r\n");
    }
    out.extend_from_slice(b"</div></body></html>\r\n");
}

/// A number of a log-normal distribution with this median and sigma.
pub(crate) fn log_normal(rng: &mut Rng, (median, sigma): (f64, f64)) -> f64 {
    median * (rng.normal() * sigma).exp()
}
