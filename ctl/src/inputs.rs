//! What is typed about *how* a playbook runs, turned into the wire's run inputs: variables,
//! inventory, labels, times. Reads the files that are named; never talks to the dispatcher.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_wire::{
    RunStatus,
    inputs::{MAX_INPUTS_BYTES, RunInputs},
};
use serde_json::{Map, Value};

use crate::{
    cli::RunArgs,
    secret,
    trouble::{Result, Trouble},
};

/// The longest timeout the dispatcher takes, in seconds.
const MAX_TIMEOUT: i64 = 604_800;
/// How long an Ed25519 signature is.
const SIGNATURE_BYTES: usize = 64;
/// The most that a file with a signature may have.
const MAX_SIGNATURE_FILE: u64 = 4096;
/// The most `-v` that Ansible understands.
const MAX_VERBOSITY: u8 = 5;

/// The run inputs that the options ask for; `None` where none does.
pub(crate) fn collect(args: &RunArgs) -> Result<Option<RunInputs>> {
    let inputs = RunInputs {
        extra_vars: extra_vars(&args.extra_vars)?,
        inventory: args.inventory.as_deref().map(inventory).transpose()?,
        limit: args.limit.clone(),
        tags: named(&args.tags),
        skip_tags: named(&args.skip_tags),
        check: args.check,
        diff: args.diff,
        verbosity: args.verbose.min(MAX_VERBOSITY),
        playbook_sha256: args.sha256.clone(),
        playbook_signature: args.signature.as_deref().map(signature).transpose()?,
        secrets: secret::collect(&args.secrets)?,
    };
    if inputs == RunInputs::default() {
        return Ok(None);
    }
    let size = serde_json::to_vec(&inputs).map_or(0, |json| json.len());
    if size > MAX_INPUTS_BYTES {
        return Err(Trouble::usage(format!(
            "variables, inventory and secrets take {size} bytes together; at most \
             {MAX_INPUTS_BYTES} are allowed"
        ))
        .hint("put large data into the playbook's folder and run the folder"));
    }
    Ok(Some(inputs))
}

/// A SHA-256, as `sha256sum` prints it.
pub(crate) fn sha256(text: &str) -> std::result::Result<String, String> {
    let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("allowed: 64 hexadecimal digits".to_owned())
    }
}

/// A detached Ed25519 signature: a file with its 64 bytes, or with these in base64.
fn signature(path: &Path) -> Result<String> {
    let wrong = |why: &str| {
        Trouble::usage(format!("`{}` is not a signature: {why}", path.display())).hint(
            "allowed: a file with the 64 bytes of an Ed25519 signature, or with these in base64; \
             for example: openssl pkeyutl -sign -rawin -inkey key.pem -in site.yml -out site.yml.sig",
        )
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| wrong(&error.to_string()))?;
    file.take(MAX_SIGNATURE_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(&error.to_string()))?;
    if bytes.len() != SIGNATURE_BYTES {
        let text: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        bytes = BASE64_STANDARD.decode(text).map_err(|error| wrong(&error.to_string()))?;
    }
    if bytes.len() != SIGNATURE_BYTES {
        return Err(wrong(&format!("it has {} bytes", bytes.len())));
    }
    Ok(BASE64_STANDARD.encode(bytes))
}

fn named(tags: &[String]) -> Vec<String> {
    tags.iter().filter(|tag| !tag.is_empty()).cloned().collect()
}

/// Merges `-e` options in their order.
fn extra_vars(options: &[String]) -> Result<Option<Map<String, Value>>> {
    let mut all = Map::new();
    for option in options {
        all.extend(variables(option)?);
    }
    Ok((!options.is_empty()).then_some(all))
}

fn variables(option: &str) -> Result<Map<String, Value>> {
    if let Some(path) = option.strip_prefix('@') {
        let text = read_text(Path::new(path), "the variables of -e")?;
        return mapping(&text, &format!("`{path}`"));
    }
    if option.trim_start().starts_with(['{', '[']) {
        return mapping(option, "the value of -e");
    }
    let (key, value) = pair(option).map_err(|why| {
        Trouble::usage(format!("-e `{option}`: {why}")).hint("allowed: k=v, @file or a JSON object")
    })?;
    Ok(Map::from_iter([(key, Value::String(plain_value(option, &value)?))]))
}

/// A value as Ansible would read it: quotes around all of it go, but several variables in one
/// option, which Ansible allows, would silently become one here and are refused.
fn plain_value(option: &str, value: &str) -> Result<String> {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Ok(inner.to_owned());
        }
    }
    let second = value.split_whitespace().skip(1).any(|word| {
        word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && is_variable_name(name))
    });
    if second {
        return Err(Trouble::usage(format!("-e `{option}` looks like several variables"))
            .hint("give each its own -e, quote the value (k='a b=c'), or use JSON"));
    }
    Ok(value.to_owned())
}

fn is_variable_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn mapping(text: &str, what: &str) -> Result<Map<String, Value>> {
    // JSON first: it is stricter about duplicates of meaning such as `yes`, and YAML is the rest.
    let value = serde_json::from_str(text).or_else(|_| yaml_serde::from_str::<Value>(text));
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) if text.trim().is_empty() => Ok(Map::new()),
        Ok(other) => Err(Trouble::usage(format!(
            "{what} must be a mapping of names to values, not {}",
            kind_of(&other)
        ))),
        Err(error) => Err(Trouble::usage(format!("{what} is neither JSON nor YAML: {error}"))),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// An inventory: a file's text, or hosts separated by commas or line ends.
fn inventory(value: &str) -> Result<String> {
    let path = Path::new(value);
    if path.is_dir() {
        return Err(Trouble::usage(format!("-i `{value}` is a folder; an inventory is one file")));
    }
    if path.exists() {
        return read_text(path, "the inventory");
    }
    if value.contains('\n') {
        return Ok(value.to_owned());
    }
    if value.contains(',') {
        let hosts = value.split(',').map(str::trim).filter(|host| !host.is_empty());
        return Ok(hosts.map(|host| format!("{host}\n")).collect());
    }
    Err(Trouble::usage(format!("-i `{value}`: no such file"))
        .hint(format!("to name hosts, end them with a comma: -i '{value},'")))
}

/// Reads a file that must be text and not larger than all inputs may be.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Trouble::usage(format!("cannot read {what} from `{shown}`: {error}"))
    };
    let mut text = String::new();
    let most = MAX_INPUTS_BYTES as u64;
    File::open(path).and_then(|f| f.take(most + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > most {
        return Err(Trouble::usage(format!(
            "`{shown}` is larger than {most} bytes, the most for {what}"
        )));
    }
    Ok(text)
}

/// `k=v`: split at the first `=`, the key not empty.
pub(crate) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        Some(_) => Err("the name before `=` is empty".to_owned()),
        None => Err("a name and a value are needed, as k=v".to_owned()),
    }
}

/// Labels as the wire has them; the same name with two values is a mistake.
pub(crate) fn labels(pairs: &[(String, String)]) -> Result<Option<BTreeMap<String, String>>> {
    let mut labels = BTreeMap::new();
    for (key, value) in pairs {
        if let Some(before) = labels.insert(key.clone(), value.clone())
            && before != *value
        {
            return Err(Trouble::usage(format!(
                "label `{key}` is given as `{before}` and as `{value}`; a label has one value"
            )));
        }
    }
    Ok((!labels.is_empty()).then_some(labels))
}

/// A status by its name.
pub(crate) fn run_status(name: &str) -> std::result::Result<RunStatus, String> {
    RunStatus::parse(name)
        .ok_or_else(|| format!("allowed: {}", RunStatus::ALL.map(RunStatus::as_str).join(", ")))
}

/// Seconds, or numbers with units from large to small: `90`, `15m`, `1h30m`, `7d`.
pub(crate) fn timeout(text: &str) -> std::result::Result<i32, String> {
    let seconds =
        seconds_of(text).ok_or("write seconds (90) or a time with units (30s, 15m, 1h30m, 7d)")?;
    if seconds > MAX_TIMEOUT {
        return Err(format!("at most {MAX_TIMEOUT} seconds (7d) are allowed"));
    }
    i32::try_from(seconds).map_err(|error| error.to_string())
}

fn seconds_of(text: &str) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (mut rest, mut total, mut last_unit) = (text, 0_i64, i64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.get(digits..)?.chars().next()? {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if unit >= last_unit {
            return None;
        }
        total = total.checked_add(number.checked_mul(unit)?)?;
        last_unit = unit;
        rest = rest.get(digits + 1..)?;
    }
    (last_unit != i64::MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vars(options: &[&str]) -> Result<Value> {
        let options: Vec<_> = options.iter().map(|&o| o.to_owned()).collect();
        Ok(extra_vars(&options)?.map_or(Value::Null, Value::Object))
    }

    #[test]
    fn variables_come_in_three_forms_and_later_ones_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v.yml");
        std::fs::write(&file, "a: 1\nlist: [x, y]\n").unwrap();
        let at_file = format!("@{}", file.display());
        let all = vars(&[&at_file, "b=two words", r#"{"a": 2, "c": null}"#, "d='q=r s'"]).unwrap();
        let want = json!({"a": 2, "list": ["x", "y"], "b": "two words", "c": null, "d": "q=r s"});
        assert_eq!(all, want);
        assert_eq!(vars(&[]).unwrap(), Value::Null);
        assert_eq!(
            vars(&["{a: 1}"]).unwrap(),
            json!({"a": 1}),
            "YAML in place, as Ansible takes it"
        );
    }

    #[test]
    fn wrong_variables_say_what_is_wrong() {
        for (option, part) in [
            ("novalue", "k=v"),
            ("=x", "empty"),
            ("a=1 b=2", "several variables"),
            ("[1, 2]", "a list"),
            ("{\"a\": ", "neither JSON nor YAML"),
            ("@/does/not/exist", "cannot read"),
        ] {
            let trouble = vars(&[option]).unwrap_err();
            assert!(trouble.message().contains(part), "{option}: {}", trouble.message());
            assert_eq!(trouble.status(), 2);
        }
    }

    #[test]
    fn timeouts_are_seconds_or_units() {
        for (text, want) in
            [("0", 0), ("90", 90), ("30s", 30), ("15m", 900), ("1h30m", 5400), ("7d", 604_800)]
        {
            assert_eq!(timeout(text), Ok(want), "{text}");
        }
        for text in
            ["", "h", "1x", "-5", "1.5h", "8d", "604801", "30m1h", "5m5m", "99999999999999999999d"]
        {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_inventory_is_a_file_or_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        std::fs::write(&file, "[web]\nweb1\n").unwrap();
        assert_eq!(inventory(file.to_str().unwrap()).unwrap(), "[web]\nweb1\n");
        assert_eq!(inventory("web1, web2,").unwrap(), "web1\nweb2\n");
        assert_eq!(inventory("[a]\nb").unwrap(), "[a]\nb");
        assert!(inventory("web1").unwrap_err().message().contains("no such file"));
        assert!(inventory(dir.path().to_str().unwrap()).unwrap_err().message().contains("folder"));
    }

    #[test]
    fn labels_have_one_value() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(labels(&[]).unwrap(), None);
        assert_eq!(labels(&[pair("a", "1"), pair("a", "1")]).unwrap().unwrap().len(), 1);
        assert!(labels(&[pair("a", "1"), pair("a", "2")]).is_err());
    }

    #[test]
    fn a_large_file_is_refused_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'a'; MAX_INPUTS_BYTES + 1]).unwrap();
        assert!(read_text(file.path(), "it").unwrap_err().message().contains("larger than"));
    }
}
