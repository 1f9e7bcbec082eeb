//! What a source file makes its agent run on the mail server, or believe there, as one digest.
//!
//! A key that `pair` lets in carries this digest in its forced command, so that whoever holds the key cannot name other
//! commands in the text that he sends. Counted is what names programs, or decides which of the agent's own are run on whose
//! word: how mail is stopped, started and asked for, whose configuration of Cyrus is believed (it also says which trees a
//! restore exchanges), where its tools lie and as whom they run, whether processes may be killed, and what a standby runs
//! when it takes over. Not counted is what an admin tunes and what can only be more or less of the same: times, limits, which
//! files are taken, how they are kept.
//!
//! The digest is BLAKE3 in its key derivation mode with [`DOMAIN`] as the context, over fields in a fixed order. A field is
//! the number of its words (`u32::MAX` for "not said") and each word's length and bytes, numbers as 32 bits, little endian. It
//! is made of checked values: comments, order and defaults that are written out make no difference.

use std::fmt;
use std::str::FromStr;

use super::{Argv, QuiesceMode, Source, Stragglers, System};

/// The context of the digest; its form is that of version 1.
const DOMAIN: &str = "mailkeep v1 2026-11-23 commands of a source file";

/// Stands for all that a source file makes an agent run: see the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandsDigest([u8; 32]);

impl fmt::Display for CommandsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A word that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest of commands has 64 digits from 0 to 9 and a to f")]
pub struct NoDigest;

impl FromStr for CommandsDigest {
    type Err = NoDigest;

    fn from_str(word: &str) -> Result<Self, NoDigest> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NoDigest),
        };
        if word.len() != 64 {
            return Err(NoDigest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Ok(CommandsDigest(bytes))
    }
}

/// Fields, one after the other.
struct Fields(blake3::Hasher);

impl Fields {
    fn number(&mut self, number: u32) {
        self.0.update(&number.to_le_bytes());
    }

    fn words<'a>(&mut self, words: Option<impl IntoIterator<Item = &'a [u8]>>) {
        let Some(words) = words else { return self.number(u32::MAX) };
        let words: Vec<&[u8]> = words.into_iter().collect();
        // A source file is far too small for more than fits.
        self.number(u32::try_from(words.len()).unwrap_or(u32::MAX - 1));
        for word in words {
            self.number(u32::try_from(word.len()).unwrap_or(u32::MAX - 1));
            self.0.update(word);
        }
    }

    fn word(&mut self, word: &[u8]) {
        self.words(Some([word]));
    }

    fn command(&mut self, command: Option<&Argv>) {
        let words = command.map(Argv::words);
        self.words(words.as_ref().map(|words| words.iter().map(String::as_bytes)));
    }
}

impl Source {
    /// Stands for everything in this file that makes an agent run something on the server, or believe it.
    pub fn commands_digest(&self) -> CommandsDigest {
        let mut fields = Fields(blake3::Hasher::new_derive_key(DOMAIN));
        fields.word(self.system.word().as_bytes());
        if let System::Cyrus(cyrus) = &self.system {
            fields.word(cyrus.imapd_conf.as_os_str().as_encoded_bytes());
            fields.word(cyrus.cyrus_user.as_bytes());
            fields.words(cyrus.bin_dir.as_ref().map(|dir| [dir.as_os_str().as_encoded_bytes()]));
        }
        let quiesce = &self.quiesce;
        fields.word(match quiesce.mode {
            QuiesceMode::Auto => b"auto",
            QuiesceMode::GlobalLock => b"global-lock",
            QuiesceMode::Systemd => b"systemd",
            QuiesceMode::Init => b"init",
            QuiesceMode::Command => b"command",
        });
        for command in [&quiesce.stop, &quiesce.start, &quiesce.running] {
            fields.command(command.as_ref());
        }
        let probe = quiesce.probe.as_ref().map(ToString::to_string);
        fields.words(probe.as_ref().map(|probe| [probe.as_bytes()]));
        fields.word(match quiesce.stragglers {
            Stragglers::Wait => b"wait",
            Stragglers::Kill => b"kill",
        });
        match &self.standby {
            None => fields.words(None::<[&[u8]; 0]>),
            Some(standby) => {
                fields.word(standby.hooks.len().to_string().as_bytes());
                standby.hooks.iter().for_each(|hook| fields.command(Some(hook)));
            }
        }
        CommandsDigest(*fields.0.finalize().as_bytes())
    }

    /// The commands that are written out in this file: its key for them, and the command.
    pub fn commands_written_out(&self) -> Vec<(&'static str, String)> {
        let quiesce = &self.quiesce;
        let of_mail = [("stop", &quiesce.stop), ("start", &quiesce.start), ("running", &quiesce.running)];
        let of_mail =
            of_mail.into_iter().filter_map(|(key, command)| Some((key, command.as_ref()?.to_string())));
        let hooks =
            self.standby.iter().flat_map(|standby| &standby.hooks).map(|hook| ("hook", hook.to_string()));
        of_mail.chain(hooks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"m\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n";

    fn digest(text: &str) -> CommandsDigest {
        Source::parse(text, "m.toml").unwrap().commands_digest()
    }

    fn with(sections: &str) -> CommandsDigest {
        digest(&format!("{HEAD}{sections}"))
    }

    const COMMANDS: &str = "[quiesce]\nstop = [\"/s\", \"a b\"]\nstart = [\"/t\"]\nrunning = [\"/r\"]\n";

    #[test]
    fn whatever_is_run_or_believed_counts() {
        let texts = [
            String::new(),
            "[cyrus]\nimapd-conf = \"/tmp/imapd.conf\"\n".to_owned(),
            "[cyrus]\ncyrus-user = \"root\"\n".to_owned(),
            "[cyrus]\nbin-dir = \"/tmp/bin\"\n".to_owned(),
            "[quiesce]\nmode = \"systemd\"\n".to_owned(),
            "[quiesce]\nmode = \"init\"\n".to_owned(),
            "[quiesce]\nmode = \"global-lock\"\n".to_owned(),
            COMMANDS.to_owned(),
            COMMANDS.replace("/s", "/x"),
            COMMANDS.replace("a b", "a\", \"b"),
            COMMANDS.replace("/s\", \"a b", "/sa\", \" b"),
            COMMANDS.replace("\"/s\", \"a b\"", "\"/s\""),
            COMMANDS.replace("[\"/t\"]", "[\"/t\", \"\"]"),
            COMMANDS.replace("/r", "/x"),
            COMMANDS.replace("running = [\"/r\"]\n", ""),
            format!("{COMMANDS}mode = \"command\"\n"),
            "[quiesce]\nprobe = \"imap://127.0.0.1:143\"\n".to_owned(),
            "[quiesce]\nprobe = \"imap://127.0.0.1:144\"\n".to_owned(),
            "[quiesce]\nprobe = \"pop3://127.0.0.1:143\"\n".to_owned(),
            "[quiesce]\nstragglers = \"kill\"\n".to_owned(),
            "[standby]\nof = \"a\"\n".to_owned(),
            "[standby]\nof = \"a\"\nhooks = [[\"/h\", \"x\"], [\"/i\"]]\n".to_owned(),
            "[standby]\nof = \"a\"\nhooks = [[\"/h\"], [\"x\", \"/i\"]]\n".to_owned(),
            "[standby]\nof = \"a\"\nhooks = [[\"/h\", \"x\", \"/i\"]]\n".to_owned(),
        ];
        let mut seen: Vec<(String, CommandsDigest)> = Vec::new();
        for text in texts {
            let this = with(&text);
            let same = seen.iter().find(|(_, known)| *known == this);
            assert!(same.is_none(), "{text} is taken for {same:?}");
            seen.push((text, this));
        }
        let generic =
            "name = \"m\"\nsystem = \"generic\"\n[transport]\nkind = \"local\"\n[generic]\npaths = [\"/\"]\n";
        assert!(seen.iter().all(|(_, known)| *known != digest(generic)));
    }

    #[test]
    fn what_is_tuned_or_only_written_otherwise_does_not() {
        let plain = with("");
        for text in [
            "# a comment\n[quiesce]\nmode = \"auto\"\nstragglers = \"wait\"\n",
            "[quiesce]\ndeadline = \"2m\"\nstraggler-wait = \"1s\"\nfreeze = \"off\"\n",
            "[cyrus]\nimapd-conf = \"/etc/./imapd.conf\"\ncyrus-user = \"cyrus\"\nalso = []\n",
            "[limits]\nread = \"20 MB/s\"\n",
        ] {
            assert_eq!(with(text), plain, "{text}");
        }
        let ssh = HEAD.replace("local", "ssh") + "host = \"mail1\"\nrestore-identity-file = \"/k\"\n";
        let source = Source::parse(&ssh, "m.toml").unwrap();
        assert_eq!(source.commands_digest(), plain);
        assert_eq!(digest(&source.text_for_agent()), plain, "box and agent must come to the same");
        assert_eq!(digest(&HEAD.replace("\"m\"", "\"other\"")), plain);
    }

    #[test]
    fn the_form_is_that_of_version_1() {
        // Lines in authorized_keys hold it for years: a change of the form locks every box out.
        assert_eq!(
            with(COMMANDS).to_string(),
            "65fd571fecdad3f8ab57096427099f2587c0998ff6efff8bd68b11e4a8a065bd"
        );
    }

    #[test]
    fn digests_are_read_back_and_other_words_are_refused() {
        let word = with("").to_string();
        assert_eq!(word.parse(), Ok(with("")));
        let short = &word[1..];
        for wrong in
            ["", short, &word.to_uppercase(), &format!("{word}0"), &format!("+{short}"), &"é".repeat(32)]
        {
            assert_eq!(wrong.parse::<CommandsDigest>(), Err(NoDigest), "{wrong}");
        }
    }
}
