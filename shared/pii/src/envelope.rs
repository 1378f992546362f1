//! `aesgcm:v1:` — AES-256-GCM with a fresh random 96-bit nonce, written as base64 of nonce, ciphertext and tag.
//!
//! Other programs read this format, so it stays as it is: no key id, no associated data.

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::Aead};
use base64::{Engine, engine::general_purpose::STANDARD};
use runtime::{Random, Secret};

const PREFIX: &str = "aesgcm:v1:";
/// NIST SP 800-38D recommends 96 bits.
const NONCE_BYTES: usize = 12;

/// Why an envelope could not be opened. One shape for a wrong key, a cut value and a foreign format, so that nobody
/// learns from the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value cannot be decrypted with this key")]
pub struct CannotOpen;

/// A 256-bit key.
#[derive(Clone)]
pub struct Key(Aes256Gcm);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Reads 64 hexadecimal characters.
    ///
    /// # Errors
    /// What is wrong with the text, without showing it.
    pub fn from_hex(text: &Secret) -> Result<Self, String> {
        let text = text.expose();
        let mut bytes = [0_u8; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(Aes256Gcm::new(&bytes.into()))),
            Err(hex::FromHexError::InvalidHexCharacter { index, .. }) => {
                Err(format!("character {} is not hexadecimal; give 64 hexadecimal characters (32 bytes)", index + 1))
            }
            Err(_) => {
                Err(format!("has {} characters; give 64 hexadecimal characters (32 bytes)", text.chars().count()))
            }
        }
    }

    /// Encrypts `plaintext` under a fresh nonce.
    ///
    /// # Panics
    /// Never: AES-GCM refuses only texts beyond 64 GiB.
    pub fn seal(&self, random: &Random, plaintext: &str) -> String {
        let nonce: [u8; NONCE_BYTES] = random.bytes();
        let sealed =
            self.0.encrypt(&Nonce::from(nonce), plaintext.as_bytes()).expect("AES-GCM encrypts anything below 64 GiB");
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        format!("{PREFIX}{}", STANDARD.encode(bytes))
    }

    /// Decrypts what [`Key::seal`] made.
    ///
    /// # Errors
    /// [`CannotOpen`], whatever the reason.
    pub fn open(&self, envelope: &str) -> Result<Secret, CannotOpen> {
        let bytes = envelope.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok()).ok_or(CannotOpen)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(CannotOpen)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| CannotOpen)?;
        let plain = self.0.decrypt(&Nonce::from(nonce), sealed).map_err(|_| CannotOpen)?;
        String::from_utf8(plain).map(Secret::new).map_err(|_| CannotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> Key {
        Key::from_hex(&Secret::new(digit.repeat(64))).unwrap()
    }

    #[test]
    fn what_was_sealed_opens() {
        let envelope = key("a").seal(&Random::seeded(1), "refresh");
        assert!(envelope.starts_with("aesgcm:v1:"));
        assert_eq!(key("a").open(&envelope).unwrap().expose(), "refresh");
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let random = Random::system();
        assert_ne!(key("a").seal(&random, "refresh"), key("a").seal(&random, "refresh"));
    }

    #[test]
    fn another_key_and_every_changed_byte_are_refused() {
        let envelope = key("a").seal(&Random::seeded(1), "refresh");
        assert!(key("b").open(&envelope).is_err());
        let bytes = STANDARD.decode(&envelope[PREFIX.len()..]).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(key("a").open(&format!("{PREFIX}{}", STANDARD.encode(bytes))).is_err(), "byte {at}");
        }
        assert!(key("a").open("aesgcm:v1:").is_err());
        assert!(key("a").open("plain").is_err());
    }

    #[test]
    fn a_wrong_key_text_is_told_without_being_shown() {
        assert!(Key::from_hex(&Secret::new("abc")).unwrap_err().contains("has 3 characters"));
        let wrong = Key::from_hex(&Secret::new("z".repeat(64))).unwrap_err();
        assert!(wrong.contains("character 1") && !wrong.contains("zz"));
    }
}
