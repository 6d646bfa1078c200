//! How the inputs of a run are kept: its secrets sealed and bound to the run, the rest as JSON.
//!
//! Dispatch takes them apart here; the execution routes put them together for the claim's holder.

use std::collections::BTreeMap;

use dispatcher_wire::inputs::RunInputs;
use serde_json::Value;
use uuid::Uuid;

use crate::{execution::model::StoredInputs, keyring::Keyring};

/// Why inputs cannot be kept or given back. Never contains any of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InputsError {
    /// The keys do not fit, or the machine has no randomness.
    #[error(
        "secrets of run {0} cannot be sealed or opened: DISPATCHER_SECRET_KEYS lacks their key"
    )]
    Sealed(Uuid),
    /// What is stored is not what was stored.
    #[error("the stored inputs of run {0} are not inputs")]
    Malformed(Uuid),
}

/// Takes inputs apart into what is stored.
///
/// # Errors
/// When the secrets cannot be sealed.
pub fn take_apart(
    keyring: &Keyring,
    run_id: Uuid,
    inputs: &RunInputs,
) -> Result<StoredInputs, InputsError> {
    let RunInputs { secrets, .. } = inputs;
    let plain = RunInputs { secrets: None, ..inputs.clone() };
    let plain = serde_json::to_value(plain).map_err(|_| InputsError::Malformed(run_id))?;
    let sealed_secrets =
        secrets.as_ref().map(|secrets| seal(keyring, run_id, secrets)).transpose()?;
    Ok(StoredInputs { inputs: Some(plain), sealed_secrets })
}

/// Puts inputs together again from what is stored.
///
/// # Errors
/// When the secrets cannot be opened, or the rest was tampered with.
pub fn put_together(
    keyring: &Keyring,
    run_id: Uuid,
    stored: StoredInputs,
) -> Result<RunInputs, InputsError> {
    let malformed = |_| InputsError::Malformed(run_id);
    let plain = stored.inputs.map(serde_json::from_value).transpose().map_err(malformed)?;
    let mut inputs: RunInputs = plain.unwrap_or_default();
    if let Some(sealed) = &stored.sealed_secrets {
        let opened = keyring.open(run_id.as_bytes(), sealed);
        let opened = opened.map_err(|_| InputsError::Sealed(run_id))?;
        inputs.secrets = Some(serde_json::from_slice(&opened).map_err(malformed)?);
    }
    Ok(inputs)
}

fn seal(
    keyring: &Keyring,
    run_id: Uuid,
    secrets: &BTreeMap<String, Value>,
) -> Result<Vec<u8>, InputsError> {
    let json = serde_json::to_vec(secrets).map_err(|_| InputsError::Malformed(run_id))?;
    keyring.seal(run_id.as_bytes(), &json).map_err(|_| InputsError::Sealed(run_id))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keyring() -> Keyring {
        Keyring::parse(&Keyring::generate().unwrap()).unwrap()
    }

    #[test]
    fn inputs_come_back_whole_and_secrets_lie_sealed() {
        let (keyring, run_id) = (keyring(), Uuid::new_v4());
        let inputs: RunInputs = serde_json::from_value(json!({
            "extra_vars": {"a": [1]}, "tags": ["x"], "secrets": {"password": "hunter2"},
        }))
        .unwrap();
        let stored = take_apart(&keyring, run_id, &inputs).unwrap();
        assert!(!stored.inputs.as_ref().unwrap().to_string().contains("hunter2"));
        let sealed = stored.sealed_secrets.clone().unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert!(put_together(&keyring, run_id, stored.clone()).unwrap() == inputs);
        let other = Uuid::new_v4();
        let error = put_together(&keyring, other, stored).unwrap_err();
        assert_eq!(error, InputsError::Sealed(other));
    }

    #[test]
    fn without_secrets_nothing_is_sealed() {
        let (keyring, run_id) = (keyring(), Uuid::new_v4());
        let stored = take_apart(&keyring, run_id, &RunInputs::default()).unwrap();
        assert!(stored.sealed_secrets.is_none());
        assert!(put_together(&keyring, run_id, stored).unwrap() == RunInputs::default());
    }
}
