//! What lets a person or a tool in: a token, or a password of which only the argon2 hash is kept.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Error, Result};

/// A shorter token could be guessed.
const SHORTEST_TOKEN: usize = 24;

/// The hash of a secret of many random bits: comparing hashes takes the same time whatever is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    pub(super) fn is_of(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

pub(super) fn token(token: &str) -> Result<Fingerprint> {
    if token.len() < SHORTEST_TOKEN
        || !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    {
        return Err(Error::Token { shortest: SHORTEST_TOKEN });
    }
    Ok(Fingerprint::of(token))
}

/// 256 random bits in letters and digits.
pub(super) fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::Random(e.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Of a password as it is, or of its argon2 hash as a PHC string.
pub(super) fn password(text: &str) -> Result<PasswordHash> {
    if text.is_empty() {
        return Err(Error::Password("it is empty".to_owned()));
    }
    if text.starts_with("$argon2") {
        return PasswordHash::new(text).map_err(|e| Error::Password(format!("it is no PHC string: {e}")));
    }
    Argon2::default().hash_password(text.as_bytes()).map_err(|e| Error::Password(e.to_string()))
}

/// Takes some tens of milliseconds and 19 MiB.
pub(super) fn is_password(given: &str, hash: &PasswordHash) -> bool {
    Argon2::default().verify_password(given.as_bytes(), hash).is_ok()
}
