//! Asking for a run: one dispatch of one item, safe to repeat by its idempotency key, and what its
//! answer means.

use dispatcher_wire::{
    dispatch::{DispatchItem, RunCreated},
    inputs::RunInputs,
};
use uuid::Uuid;

use crate::{
    cli::RunArgs,
    client::Client,
    connection::variable,
    inputs,
    recipients::Chosen,
    text,
    trouble::{Result, Trouble},
};

/// What is asked for, as far as it is known before the playbook has an address.
pub(crate) struct Wish {
    /// How the playbook is executed.
    pub(crate) inputs: Option<RunInputs>,
    /// What people call the run.
    pub(crate) name: String,
    key: String,
    labels: Option<std::collections::BTreeMap<String, String>>,
    timeout: Option<i32>,
}

impl Wish {
    /// Reads what was typed, and the files that are named in it.
    pub(crate) fn read(args: &RunArgs, default_name: String) -> Result<Self> {
        let name = args.name.clone().unwrap_or(default_name);
        if name.is_empty() {
            return Err(Trouble::usage("--name must not be empty"));
        }
        Ok(Self {
            inputs: inputs::collect(args)?,
            name,
            key: idempotency_key(args.idempotency_key.as_deref())?,
            labels: inputs::labels(&args.labels)?,
            timeout: args.timeout,
        })
    }

    /// The playbook must be this one where it is executed, unless another was named.
    pub(crate) fn pin(&mut self, sha256: String) {
        let inputs = self.inputs.get_or_insert_default();
        inputs.playbook_sha256.get_or_insert(sha256);
    }

    fn item(self, url: String, chosen: &Chosen) -> (String, DispatchItem) {
        let Self { inputs, name, key, labels, timeout } = self;
        let item = DispatchItem {
            recipient: chosen.id,
            org_id: chosen.org_id.clone(),
            principal: principal(),
            url,
            name,
            web_console_url: None,
            labels,
            timeout,
            hosts: None,
            recipient_config: None,
            inputs,
        };
        (key, item)
    }
}

/// A key of its own for every call, so that sending the request again after a cut connection
/// cannot make a second run.
fn idempotency_key(given: Option<&str>) -> Result<String> {
    const MOST: usize = 255;
    let Some(key) = given else { return Ok(Uuid::new_v4().to_string()) };
    if key.is_empty() || key.len() > MOST || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Trouble::usage(
            "--idempotency-key: 1 to 255 visible ASCII characters are allowed",
        ));
    }
    Ok(key.to_owned())
}

/// On whose behalf the run is: the person at this terminal.
pub(crate) fn principal() -> String {
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    user.map_or_else(|| "dispatchctl".to_owned(), |user| text::clean(&user))
}

/// Dispatches; answers with the new run.
pub(crate) async fn dispatch(
    client: &Client,
    wish: Wish,
    url: String,
    chosen: &Chosen,
) -> Result<Uuid> {
    let (key, item) = wish.item(url, chosen);
    let path = ["internal", "v2", "dispatch"];
    let answer: Vec<RunCreated> = client.post(&path, Some(&key), &[item]).await?;
    match answer.as_slice() {
        [RunCreated { code: 201, id: Some(id), .. }] => Ok(*id),
        [refused] => Err(refusal(refused, chosen)),
        _ => Err(Trouble::connection(
            "the dispatcher answered a dispatch of one with something else",
        )),
    }
}

fn refusal(refused: &RunCreated, chosen: &Chosen) -> Trouble {
    let name = chosen.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let message = refused.message.as_deref().unwrap_or("no reason was given");
    let what = format!("the run was not accepted: {message} (code {})", refused.code);
    match refused.code {
        404 => Trouble::failed(what).hint(format!(
            "recipient {}{name} is unknown to org {} or not connected; see: dispatchctl recipients",
            chosen.id, chosen.org_id
        )),
        500.. => Trouble::connection(what)
            .hint("it may have been started all the same; see: dispatchctl runs list"),
        _ => Trouble::failed(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_key_unless_one_is_given() {
        assert_ne!(idempotency_key(None).unwrap(), idempotency_key(None).unwrap());
        assert_eq!(idempotency_key(Some("deploy-42")).unwrap(), "deploy-42");
        for wrong in ["", "a b", "ü", &"a".repeat(256)] {
            assert!(idempotency_key(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let chosen =
            Chosen { id: Uuid::nil(), name: Some("web".to_owned()), org_id: "7".to_owned() };
        let refused =
            RunCreated { code: 404, id: None, message: Some("Receipient not found".to_owned()) };
        let trouble = refusal(&refused, &chosen);
        assert_eq!(trouble.status(), 1);
        assert!(format!("{trouble:?}").contains("(web) is unknown to org 7"), "{trouble:?}");
        let trouble = refusal(&RunCreated { code: 500, ..refused }, &chosen);
        assert_eq!(trouble.status(), 5);
    }
}
