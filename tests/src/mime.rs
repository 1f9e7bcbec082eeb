//! Makes mail: base64, dates, headers, bodies and attachments. Follows RFC 5322 and RFC 2045 as far as a
//! backup can see them; lines end with CRLF as Cyrus stores them.

use crate::rng::Rng;
use crate::words::Words;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// Base64 with padding, in one line.
pub fn base64(data: &[u8]) -> String {
    let mut out = Vec::with_capacity(data.len().div_ceil(3) * 4);
    encode(data, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Base64 in lines of 76 columns, as in a mail body.
pub fn base64_body(data: &[u8], out: &mut Vec<u8>) {
    for line in data.chunks(57) {
        encode(line, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn encode(data: &[u8], out: &mut Vec<u8>) {
    for group in data.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |n, (i, b)| n | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i) & 63) as usize;
            out.push(if i <= group.len() { ALPHABET[sextet] } else { b'=' });
        }
    }
}

/// Year, month (1 to 12), day, and the weekday's index in [`WEEKDAYS`], of a day since 1970 (proleptic
/// Gregorian; the algorithm is Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, usize, i64, usize) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as usize, day, days.rem_euclid(7) as usize)
}

/// `17-Jul-2003 02:44:25 +0000`, the INTERNALDATE form.
pub fn imap_date(epoch: i64) -> String {
    let (year, month, day, _) = civil(epoch.div_euclid(86_400));
    let s = epoch.rem_euclid(86_400);
    let name = MONTHS[month - 1];
    format!("{day:02}-{name}-{year:04} {:02}:{:02}:{:02} +0000", s / 3600, s / 60 % 60, s % 60)
}

/// `Thu, 17 Jul 2003 02:44:25 +0000`, the Date header form.
pub fn header_date(epoch: i64) -> String {
    let (year, month, day, weekday) = civil(epoch.div_euclid(86_400));
    let s = epoch.rem_euclid(86_400);
    let (wd, name) = (WEEKDAYS[weekday], MONTHS[month - 1]);
    format!("{wd}, {day:02} {name} {year:04} {:02}:{:02}:{:02} +0000", s / 3600, s / 60 % 60, s % 60)
}

/// What one message shall contain.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Local part of the sender.
    pub from: String,
    /// Local part of the recipient.
    pub to: String,
    /// Seconds since 1970 of the Date header.
    pub date: i64,
    /// Bytes of text in the body.
    pub text: usize,
    /// Attachments, as the decoded bytes.
    pub attachments: Vec<Vec<u8>>,
}

impl Letter {
    /// The message as it lies in a spool.
    pub fn write(&self, words: &Words, rng: &mut Rng) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.text + 64);
        words.text(rng, self.text, &mut body);
        self.write_with_body(words, rng, &body)
    }

    /// The message with a given text body (newsletters: same body, own headers).
    pub fn write_with_body(&self, words: &Words, rng: &mut Rng, body: &[u8]) -> Vec<u8> {
        let size: usize = self.attachments.iter().map(|a| a.len() * 78 / 57 + 300).sum();
        let mut out = Vec::with_capacity(body.len() + size + 1500);
        self.headers(words, rng, &mut out);
        if self.attachments.is_empty() {
            out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n\r\n");
            out.extend_from_slice(body);
            return out;
        }
        let boundary = format!("=_{:016x}", rng.next_u64());
        let head = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n\r\n");
        out.extend_from_slice(body);
        for attachment in &self.attachments {
            let name = words.word(rng);
            let part = format!(
                "--{boundary}\r\nContent-Type: application/octet-stream; name=\"{name}.bin\"\r\n\
                 Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"{name}.bin\"\r\n\r\n"
            );
            out.extend_from_slice(part.as_bytes());
            base64_body(attachment, &mut out);
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    /// The header up to the lines that describe the body (`Content-Type` and what follows are the caller's).
    pub fn headers(&self, words: &Words, rng: &mut Rng, out: &mut Vec<u8>) {
        let relay = ["mx1.example.net", "mx2.example.net", "relay.example.org", "out.provider.example"];
        let date = header_date(self.date);
        let (from, to) = (&self.from, &self.to);
        let id = rng.next_u64();
        let (hop1, hop2) = (rng.pick(&relay), rng.pick(&relay));
        let subject_words = 2 + rng.index(6);
        let subject = words.line(rng, subject_words);
        let (key, ip) = (rng.next_u64(), rng.below(254) + 1);
        let mut signature = [0; 96];
        rng.fill(&mut signature);
        let text = format!(
            "Return-Path: <{from}@example.net>\r\n\
             Received: from {hop1} ({hop1} [192.0.2.{ip}])\r\n\tby mail.example.org (Cyrus 3.6.1) with LMTPA;\r\n\t{date}\r\n\
             X-Sieve: CMU Sieve 3.0\r\n\
             Received: from {hop2} ({hop2} [198.51.100.{ip}])\r\n\tby {hop1} (Postfix) with ESMTPS id {key:010X}\r\n\tfor <{to}@example.org>; {date}\r\n\
             DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=mail;\r\n\th=from:to:subject:date:message-id; bh={};\r\n\tb={}\r\n\
             From: {from} <{from}@example.net>\r\nTo: {to}@example.org\r\nSubject: {subject}\r\nDate: {date}\r\n\
             Message-ID: <{id:016x}.{ip}@{hop2}>\r\nMIME-Version: 1.0\r\nX-Mailer: Lab 1.0\r\n",
            base64(&signature[..32]),
            base64(&signature[32..]),
        );
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(header_date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(imap_date(951_782_400), "29-Feb-2000 00:00:00 +0000");
        assert_eq!(header_date(1_058_409_865), "Thu, 17 Jul 2003 02:44:25 +0000");
        assert_eq!(imap_date(-1), "31-Dec-1969 23:59:59 +0000");
    }
}
