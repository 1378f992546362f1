//! The certificate authorities that the binaries trust, as the file that TLS libraries look for. They come from a crate
//! and so from Cargo.lock: the same on each machine, and renewed as other dependencies are.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Base64 of a PEM file has lines of this length.
const LINE: usize = 64;

/// All of them.
pub(crate) fn pem() -> String {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|certificate| block(certificate)).collect()
}

fn block(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_short_lines_between_its_marks() {
        let lines: Vec<String> = block(&[7; 50]).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[1].len(), lines[2].len()), (64, 4));
    }

    #[test]
    fn there_is_a_crowd_of_authorities() {
        assert!(pem().matches("BEGIN CERTIFICATE").count() > 100);
    }
}
