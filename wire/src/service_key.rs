//! The form of generated keys of services: an id of 8 letters and digits, which may be shown; a
//! secret of 30; a checksum of 6 over both. So that a mistyped key is told from a wrong one, and a
//! key in the wrong place (a log, a repository) from other text, without asking anybody.

/// Letters and digits, in the order of their values.
pub const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of the id.
pub const ID_LENGTH: usize = 8;
/// Characters of the secret: 178 bits.
pub const SECRET_LENGTH: usize = 30;
/// Characters of the checksum.
pub const CHECKSUM_LENGTH: usize = 6;
/// Characters of a whole key.
pub const LENGTH: usize = ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH;

/// Whether a text can be the id of a generated key.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The id in a generated key. `None`: it is not one, or was mistyped.
#[must_use]
pub fn id_of(key: &str) -> Option<&str> {
    let plain = key.len() == LENGTH && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (rest, sum) = plain.then(|| key.split_at(ID_LENGTH + SECRET_LENGTH))?;
    (checksum(rest) == sum).then(|| rest.split_at(ID_LENGTH).0)
}

/// The checksum of id and secret: their CRC-32 to the base 62.
#[must_use]
pub fn checksum(rest: &str) -> String {
    let mut value = crc32(rest.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        let at = usize::try_from(value % 62).unwrap_or_default();
        *digit = DIGITS.get(at).copied().unwrap_or(b'0');
        value /= 62;
    }
    digits.map(char::from).iter().collect()
}

/// CRC-32 as in gzip and PNG. Keys are short, so that no table is needed.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |value: u32| if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |value, _| step(value));
    !bytes.iter().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum("").len(), CHECKSUM_LENGTH);
    }

    #[test]
    fn a_key_is_recognised_and_a_mistyped_one_is_not() {
        let rest = "abcDEF12".to_owned() + &"x".repeat(SECRET_LENGTH);
        let key = format!("{rest}{}", checksum(&rest));
        assert_eq!(id_of(&key), Some("abcDEF12"));
        for at in 0..LENGTH {
            let mut typo = key.clone().into_bytes();
            typo[at] = if typo[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(id_of(std::str::from_utf8(&typo).unwrap()), None, "at {at}");
        }
        for other in ["", "abc", &key[1..], &format!("{key}0"), &"é".repeat(22)] {
            assert_eq!(id_of(other), None, "{other}");
        }
        assert!(is_id("abcDEF12") && !is_id("abcDEF1") && !is_id("abc-EF12"));
    }
}
