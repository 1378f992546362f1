//! Signatures after the Standard Webhooks specification: `v1,` and the base64 form of the HMAC-SHA256 of
//! `id.timestamp.body`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use runtime::Secret;
use sha2::Sha256;

/// Lengths of a key that the specification permits.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys that sign; more than one while the receiver changes over. Shows none of them.
#[derive(Clone)]
pub struct SigningKeys(Vec<Hmac<Sha256>>);

impl SigningKeys {
    /// Reads `whsec_` and base64 of 24 to 64 random bytes; several such, separated by spaces, all sign.
    ///
    /// # Errors
    /// What is wrong, without the value.
    pub fn parse(secret: &Secret) -> Result<Self, String> {
        let keys: Vec<_> = secret.expose().split_whitespace().map(key).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err("is empty".to_owned()) } else { Ok(Self(keys)) }
    }

    /// The value of `webhook-signature`: one signature for each key, separated by spaces.
    pub(super) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let sign = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn key(text: &str) -> Result<Hmac<Sha256>, String> {
    let encoded = text.strip_prefix("whsec_").ok_or("does not begin with whsec_")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "is not base64 after whsec_")?;
    if !LENGTHS.contains(&bytes.len()) {
        return Err(format!("has a key of {} bytes; 24 to 64 are permitted", bytes.len()));
    }
    Hmac::new_from_slice(&bytes).map_err(|_| "has a key that cannot be used".to_owned())
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    fn parse(text: &str) -> Result<SigningKeys, String> {
        SigningKeys::parse(&Secret::new(text))
    }

    #[test]
    fn the_test_vector_of_the_reference_libraries_is_met() {
        let signature =
            parse(SECRET).unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn during_a_change_over_both_keys_sign() {
        let both = parse(&format!("{SECRET} {OTHER}")).unwrap().sign("a", "1", b"{}");
        let apart = [SECRET, OTHER].map(|one| parse(one).unwrap().sign("a", "1", b"{}"));
        assert_eq!(both, apart.join(" "));
        assert_ne!(apart[0], apart[1]);
    }

    #[test]
    fn a_wrong_secret_is_refused_without_being_shown() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for wrong in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%", "whsk_MfKQ9r8G", &short, &long] {
            let problem = parse(wrong).unwrap_err();
            assert!(wrong.is_empty() || !problem.contains(wrong), "{problem}");
            assert!(!problem.contains("MfKQ9r8G"), "{problem}");
        }
        for length in [24, 64] {
            assert!(parse(&format!("whsec_{}", STANDARD.encode(vec![7; length]))).is_ok());
        }
        assert_eq!(format!("{:?}", parse(SECRET).unwrap()), "[redacted]");
    }
}
