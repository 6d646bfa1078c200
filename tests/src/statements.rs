//! What a PostgreSQL of a test's own was asked: every statement, read from its log.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::postgres::PrivatePostgres;

/// What has the server log every statement, with its database before a `#`.
pub const OPTIONS: &str = "-c log_statement=all -c log_line_prefix='%d#'";

/// Every statement so far that was run in this database, with its whole text.
///
/// # Errors
/// When the log cannot be read.
pub fn of(server: &PrivatePostgres, database: &str) -> Result<Vec<String>> {
    let prefix = format!("{database}#LOG:  ");
    let (mut found, mut own) = (Vec::<String>::new(), false);
    for line in server.log()?.lines() {
        if let Some(rest) = line.strip_prefix('\t') {
            if let Some(last) = found.last_mut().filter(|_| own) {
                last.push(' ');
                last.push_str(rest.trim());
            }
            continue;
        }
        let statement = line.strip_prefix(&prefix).and_then(|rest| {
            let (how, text) = rest.split_once(": ")?;
            (how == "statement" || how.starts_with("execute ")).then_some(text)
        });
        own = statement.is_some();
        found.extend(statement.map(str::to_owned));
    }
    Ok(found)
}

/// How often each kind of statement is there that names one of these tables. A kind is its verb and
/// the tables that it names.
#[must_use]
pub fn kinds(statements: &[String], tables: &[&str]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for statement in statements {
        let words: Vec<&str> =
            statement.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let named: Vec<&str> =
            tables.iter().filter(|table| words.contains(*table)).copied().collect();
        if named.is_empty() {
            continue;
        }
        let verb = words.iter().find(|word| !word.is_empty()).copied().unwrap_or_default();
        *kinds.entry(format!("{verb} {}", named.join("+"))).or_default() += 1;
    }
    kinds
}
