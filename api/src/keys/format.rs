//! Making keys: random letters and digits in the form of [`dispatcher_wire::service_key`]. Pure but
//! for the machine's randomness.

use aws_lc_rs::{error::Unspecified, rand};
use dispatcher_wire::service_key::{DIGITS, ID_LENGTH, SECRET_LENGTH, checksum};
use secrecy::SecretString;

/// Bytes from here on would favour some characters, and are left out.
const UNFAIR: usize = 4 * DIGITS.len();

/// A fresh id.
///
/// # Errors
/// When the machine has no randomness.
pub fn fresh_id() -> Result<String, Unspecified> {
    letters(ID_LENGTH)
}

/// A fresh key with this id.
///
/// # Errors
/// When the machine has no randomness.
pub fn fresh_key(id: &str) -> Result<SecretString, Unspecified> {
    let rest = format!("{id}{}", letters(SECRET_LENGTH)?);
    let sum = checksum(&rest);
    Ok(SecretString::from(rest + &sum))
}

fn letters(length: usize) -> Result<String, Unspecified> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes)?;
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < UNFAIR);
        let digits = fair.filter_map(|byte| DIGITS.get(byte % DIGITS.len()).copied());
        text.extend(digits.map(char::from).take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dispatcher_wire::service_key::{id_of, is_id};
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn keys_have_their_form_and_are_never_the_same() {
        let mut seen = BTreeSet::new();
        let mut used = BTreeSet::new();
        for _ in 0..200 {
            let id = fresh_id().unwrap();
            assert!(is_id(&id));
            let key = fresh_key(&id).unwrap();
            let key = key.expose_secret();
            assert_eq!(id_of(key), Some(&*id));
            used.extend(key.bytes());
            assert!(seen.insert(key.to_owned()));
        }
        assert_eq!(used.len(), DIGITS.len(), "some characters are never used");
    }
}
