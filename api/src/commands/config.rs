//! `config`: the settings in force with their sources, secrets masked; or the reference of all
//! settings.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;

use super::opening;
use crate::config::{
    Settings,
    source::{Effective, Source},
};

/// What the reference begins with.
const HEAD: &str = "\
# Settings

Settings come from the environment only. Where several names are given, they mean the same; two of
them with different values stop the start, and so does any value that is not allowed.
`dispatcher-api config` shows the values in force and where they come from. In the standalone form
the command line decides where the service keeps its data and listens, and secrets are made at the
first start.

This page is generated: `dispatcher-api config --markdown > docs/settings.md`.

| setting | what it does | allowed | default |
|---|---|---|---|
";

/// What to show.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Print the reference of all settings as Markdown instead.
    #[arg(long)]
    markdown: bool,
}

/// Prints it. Mistakes are named after the settings, and fail the command.
///
/// # Errors
/// When a setting is wrong.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.markdown {
        print!("{}", reference(&read(&mut Source::new([].into()))));
        return Ok(ExitCode::SUCCESS);
    }
    let mut source = Source::from_process();
    print!("{}", table(&read(&mut source)));
    source.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn read(source: &mut Source) -> Vec<Effective> {
    opening::database(source);
    Settings::read(source, None);
    source.effective().to_vec()
}

fn table(settings: &[Effective]) -> String {
    settings.iter().fold(String::new(), |mut text, setting| {
        let Effective { name, value, origin, .. } = setting;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={value}  # {origin}");
        text
    })
}

fn reference(settings: &[Effective]) -> String {
    settings.iter().fold(HEAD.to_owned(), |mut text, setting| {
        let names: Vec<String> = setting.names.iter().map(|name| format!("`{name}`")).collect();
        let default =
            if setting.value.is_empty() { String::new() } else { format!("`{}`", setting.value) };
        // Outside of code, pages would take <this> for an element.
        let [about, allowed] =
            [setting.about, setting.allowed].map(|text| text.replace('<', "&lt;"));
        let names = names.join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {names} | {about} | {allowed} | {default} |");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_setting_once() {
        let settings = read(&mut Source::new([].into()));
        let text = reference(&settings);
        for name in ["LISTEN", "PUBLIC_URL", "STORE_ENGINE", "DISPATCHER_SECRET_KEYS", "RETURN_URL"]
        {
            assert_eq!(text.matches(&format!("`{name}`")).count(), 1, "{name}");
        }
        let mut names: Vec<_> = settings.iter().flat_map(|setting| setting.names).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a name stands for two settings");
    }

    #[test]
    fn the_reference_in_the_documentation_is_current() {
        let documented = include_str!("../../../docs/settings.md");
        let current = reference(&read(&mut Source::new([].into())));
        assert_eq!(
            documented, current,
            "write it anew: dispatcher-api config --markdown > docs/settings.md"
        );
    }

    #[test]
    fn secrets_are_masked() {
        let variables = [("DISPATCHER_SECRET_KEYS", "k1:hunter2"), ("PSK_AUTH_TASKS", "hunter2")];
        let own = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = table(&read(&mut Source::new(own.into())));
        assert!(text.contains("DISPATCHER_SECRET_KEYS=***"), "{text}");
        assert!(text.contains("PSK_AUTH_<NAME>=***  # PSK_AUTH_TASKS"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
