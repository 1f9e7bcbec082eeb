//! The master key, the keys derived from it, and the files it is kept in. Follows FORMAT.md, "Keys".
//!
//! A repository has one random master. Every use has a key of its own, derived by BLAKE3 with a fixed context. The
//! master is kept in `keys/*.age`, an age file for one or more X25519 recipients (the box, the printed recovery key),
//! so that the standard `age` tool opens it; with `--no-encryption` the same text lies in the clear in `keys/plain`.
//! Secrets are wiped when dropped and have no `Debug`.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::random::random;
use crate::seal::SealKey;
use crate::{FormatError, IdKey, RepositoryId, limits, typed};

/// First line of the text inside of every key file.
const OPENING: &str = "mailkeep-master-v1";

/// Why a key could not be had.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not an age X25519 identity.
    #[error("this is not a key: a line `AGE-SECRET-KEY-1…` is expected")]
    NotAnIdentity,
    /// The text looks like an identity, but letters of it are wrong.
    #[error("this key has a typing error: {why}")]
    Mistyped {
        /// Where to look, by group of four letters; nothing of the key itself.
        why: String,
    },
    /// The text is not an age X25519 recipient.
    #[error("this is not a recipient: `age1…` is expected")]
    NotARecipient,
    /// No recipient was given, so that nobody could open the key file.
    #[error("a key file needs at least one recipient")]
    NoRecipient,
    /// The key file is for other keys than the one given.
    #[error("this key does not open the key file: it is for another key")]
    WrongKey,
    /// The key file cannot be read.
    #[error("the key file is damaged: {why}")]
    Damaged {
        /// What is wrong with it.
        why: String,
    },
    /// The key file holds the master of another repository.
    #[error("the key file belongs to repository {found}, not to {expected}")]
    OtherRepository {
        /// The repository it names.
        found: RepositoryId,
        /// The repository that was to be opened.
        expected: RepositoryId,
    },
    /// The key file could not be made.
    #[error("the key file could not be made: {why}")]
    NotMade {
        /// What failed.
        why: String,
    },
}

impl KeyError {
    fn damaged(why: impl fmt::Display) -> Self {
        KeyError::Damaged { why: why.to_string() }
    }
}

/// The one secret of a repository: 32 random bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Master([u8; 32]);

impl Master {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`FormatError::NoRandomness`].
    pub fn generate() -> Result<Self, FormatError> {
        Ok(Master(random("master key")?))
    }

    /// Takes 32 secret bytes as they are; for tests and tools that have them from elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Master(bytes)
    }

    /// Derives the key of every use.
    pub fn keys(&self) -> Keys {
        let derive = |context: &str| blake3::derive_key(context, &self.0);
        Keys {
            id: IdKey::new(derive("mailkeep v1 2026-11-22 chunk id")),
            block: SealKey::new(derive("mailkeep v1 2026-11-22 pack block")),
            footer: SealKey::new(derive("mailkeep v1 2026-11-22 pack footer")),
            index: SealKey::new(derive("mailkeep v1 2026-11-22 index run")),
            manifest: SealKey::new(derive("mailkeep v1 2026-11-22 manifest")),
            label: MacKey(derive("mailkeep v1 2026-11-22 label")),
            verification: SealKey::new(derive("mailkeep v1 2026-11-22 verification record")),
            sweep: SealKey::new(derive("mailkeep v1 2026-11-22 sweep record")),
            drill: SealKey::new(derive("mailkeep v1 2026-11-23 drill record")),
            checkpoint: SealKey::new(derive("mailkeep v1 2026-11-23 checkpoint")),
        }
    }

    fn same_as(&self, other: &Master) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

/// The keys of a repository, one per use.
#[derive(Clone)]
pub struct Keys {
    /// Names chunks.
    pub id: IdKey,
    pub(crate) block: SealKey,
    pub(crate) footer: SealKey,
    pub(crate) index: SealKey,
    pub(crate) manifest: SealKey,
    pub(crate) label: MacKey,
    pub(crate) verification: SealKey,
    pub(crate) sweep: SealKey,
    pub(crate) drill: SealKey,
    pub(crate) checkpoint: SealKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// A key for authentication codes. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct MacKey([u8; 32]);

impl MacKey {
    pub(crate) fn mac(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }
}

/// A secret that opens key files: an age X25519 identity. The box has one, the printed recovery key is one.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// Draws a new one.
    pub fn generate() -> Self {
        Identity(age::x25519::Identity::generate())
    }

    /// Reads an identity: an age identity file with one key, or a key that was typed from paper, in groups or not (see
    /// [`typed`]). Blank lines and `#` comments are passed over.
    ///
    /// # Errors
    /// [`KeyError::NotAnIdentity`], [`KeyError::Mistyped`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let typed = typed::read(text).map_err(|mistake| match mistake {
            typed::Mistake::Other => KeyError::NotAnIdentity,
            typed::Mistake::Typing(why) => KeyError::Mistyped { why },
        })?;
        typed.parse().map(Identity).map_err(|_| KeyError::NotAnIdentity)
    }

    /// The line `AGE-SECRET-KEY-1…`. It is the secret itself: print it once, keep it nowhere else.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret: SecretString = self.0.to_string();
        Zeroizing::new(secret.expose_secret().to_owned())
    }

    /// The public half, to which key files are made.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

/// The public half of an [`Identity`]; text form `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.trim().parse().map(Recipient).map_err(|_| KeyError::NotARecipient)
    }
}

/// Makes the bytes of a key file for these recipients. Prefer [`wrap_checked`] wherever an identity is at hand.
///
/// # Errors
/// [`KeyError::NoRecipient`], [`KeyError::NotMade`].
pub fn wrap(
    master: &Master,
    repository: &RepositoryId,
    recipients: &[Recipient],
) -> Result<Vec<u8>, KeyError> {
    let not_made = |error: &dyn fmt::Display| KeyError::NotMade { why: error.to_string() };
    let encryptor = age::Encryptor::with_recipients(
        recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient),
    )
    .map_err(|error| match error {
        age::EncryptError::MissingRecipients => KeyError::NoRecipient,
        other => not_made(&other),
    })?;
    let mut bytes = Vec::new();
    let mut writer = encryptor.wrap_output(&mut bytes).map_err(|error| not_made(&error))?;
    writer.write_all(wrap_plain(master, repository).as_bytes()).map_err(|error| not_made(&error))?;
    writer.finish().map_err(|error| not_made(&error))?;
    Ok(bytes)
}

/// As [`wrap`] to the recipients of these identities, and proves for each of them that the key file opens and gives
/// the master back (hazard 24: a key file that was written but cannot be read back).
///
/// # Errors
/// As [`wrap`] and [`unwrap`].
pub fn wrap_checked(
    master: &Master,
    repository: &RepositoryId,
    identities: &[&Identity],
) -> Result<Vec<u8>, KeyError> {
    let recipients: Vec<Recipient> = identities.iter().map(|identity| identity.recipient()).collect();
    let bytes = wrap(master, repository, &recipients)?;
    for identity in identities {
        if !unwrap(&bytes, identity, repository)?.same_as(master) {
            return Err(KeyError::NotMade { why: "it does not give the same key back".to_owned() });
        }
    }
    Ok(bytes)
}

/// Opens a key file.
///
/// # Errors
/// [`KeyError::WrongKey`] if it is for other recipients, [`KeyError::Damaged`], [`KeyError::OtherRepository`].
pub fn unwrap(bytes: &[u8], identity: &Identity, repository: &RepositoryId) -> Result<Master, KeyError> {
    if bytes.len() > limits::KEY_FILE_MAX {
        return Err(KeyError::damaged("too long for a key file"));
    }
    let decryptor = age::Decryptor::new_buffered(bytes).map_err(KeyError::damaged)?;
    let mut reader = decryptor.decrypt(std::iter::once(&identity.0 as &dyn age::Identity)).map_err(
        |error| match error {
            age::DecryptError::NoMatchingKeys => KeyError::WrongKey,
            other => KeyError::damaged(other),
        },
    )?;
    // Reserved up front, so that no half of the secret is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(limits::KEY_FILE_MAX));
    reader.read_to_string(&mut text).map_err(KeyError::damaged)?;
    unwrap_plain(&text, repository)
}

/// The text inside of a key file; by itself the file `keys/plain` of a repository without encryption.
pub fn wrap_plain(master: &Master, repository: &RepositoryId) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(OPENING.len() + 3 + 32 + 64));
    text.push_str(OPENING);
    text.push(' ');
    text.push_str(&repository.hex());
    text.push(' ');
    for byte in master.0 {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
        }
    }
    text.push('\n');
    text
}

/// Reads the text that [`wrap_plain`] wrote.
///
/// # Errors
/// [`KeyError::Damaged`], [`KeyError::OtherRepository`].
pub fn unwrap_plain(text: &str, expected: &RepositoryId) -> Result<Master, KeyError> {
    let line = text.strip_suffix('\n').ok_or_else(|| KeyError::damaged("it does not end in a line feed"))?;
    let mut words = line.split(' ');
    let (Some(OPENING), Some(repository), Some(master), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(KeyError::damaged("it is not `mailkeep-master-v1 REPOSITORY MASTER`"));
    };
    let found: RepositoryId = repository.parse().map_err(KeyError::damaged)?;
    if found != *expected {
        return Err(KeyError::OtherRepository { found, expected: *expected });
    }
    let not_a_master = || KeyError::damaged("its master is not 64 lower-case hexadecimal digits");
    let mut bytes = Zeroizing::new([0u8; 32]);
    if master.len() != 64 || !master.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(not_a_master());
    }
    for (byte, pair) in bytes.iter_mut().zip(master.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| not_a_master())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| not_a_master())?;
    }
    Ok(Master(*bytes))
}
