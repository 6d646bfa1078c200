//! Ctrl-C while following, with and without somebody at a terminal.

use std::{
    io::Read,
    process::{Child, Command},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    fake::{Fake, RUN, Script, Stream},
    program::{Ended, Home, ended},
    terminal::Terminal,
};

fn held() -> Fake {
    Script::new("success", [Stream::UntilCanceled(b"ok: [localhost]\n".to_vec())]).start()
}

/// Starts the program and waits until it shows output: from then on it follows.
fn following(command: &mut Command) -> Child {
    let mut child = command.spawn().unwrap();
    let mut line = [0; 16];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn interrupted(fake: &Fake, options: &[&str], signal: Signal) -> Ended {
    let home = Home::new();
    home.file("hello.yml", "- hosts: all\n");
    let args = [&["run", "hello.yml", "--follow"], options].concat();
    let child = following(&mut home.command(fake, &args));
    send(&child, signal);
    ended(child.wait_with_output().unwrap())
}

#[test]
fn without_a_terminal_it_just_leaves() {
    let fake = held();
    let ended = interrupted(&fake, &[], Signal::INT);
    assert_eq!(ended.status, 130);
    assert!(ended.stderr.contains(&format!("dispatchctl logs -f {RUN}")), "{}", ended.stderr);
    assert!(!fake.is_canceled());
}

#[test]
fn it_cancels_where_it_was_told_to() {
    for signal in [Signal::INT, Signal::TERM] {
        let fake = held();
        let ended = interrupted(&fake, &["--cancel-on-interrupt"], signal);
        assert_eq!(ended.status, 3, "followed to the end: {}", ended.stderr);
        assert!(fake.is_canceled());
    }
}

#[test]
fn somebody_who_only_looks_never_cancels() {
    let fake = held();
    let (home, terminal) = (Home::new(), Terminal::open());
    let mut command = home.command(&fake, &["logs", "-f", RUN]);
    let child = following(command.stdin(terminal.end()).stderr(terminal.end()));
    send(&child, Signal::INT);
    assert_eq!(ended(child.wait_with_output().unwrap()).status, 130);
    assert!(!fake.is_canceled());
}

/// Starts a run in front of a terminal and interrupts it; the question was asked when this returns.
fn asked(fake: &Fake, home: &Home, terminal: &mut Terminal) -> Child {
    home.file("hello.yml", "- hosts: all\n");
    let mut command = home.command(fake, &["run", "hello.yml", "--follow"]);
    let child = following(command.stdin(terminal.end()).stderr(terminal.end()));
    send(&child, Signal::INT);
    terminal.read_until("[y/N]");
    child
}

#[test]
fn at_a_terminal_yes_cancels_and_follows_to_the_end() {
    let (fake, home, mut terminal) = (held(), Home::new(), Terminal::open());
    let child = asked(&fake, &home, &mut terminal);
    terminal.type_line("y");
    terminal.read_until("canceled");
    assert_eq!(ended(child.wait_with_output().unwrap()).status, 3);
    assert!(fake.is_canceled());
}

#[test]
fn at_a_terminal_no_goes_on_and_another_interrupt_leaves() {
    let (fake, home, mut terminal) = (held(), Home::new(), Terminal::open());
    let child = asked(&fake, &home, &mut terminal);
    terminal.type_line("");
    terminal.read_until("following on");
    send(&child, Signal::INT);
    terminal.read_until("[y/N]");
    send(&child, Signal::INT);
    terminal.read_until(&format!("dispatchctl logs -f {RUN}"));
    assert_eq!(ended(child.wait_with_output().unwrap()).status, 130);
    assert!(!fake.is_canceled());
}

#[test]
fn while_it_waits_a_terminal_shows_why() {
    let mut script = Script::new("success", [Stream::UntilCanceled(Vec::new())]);
    script.pending_reason = Some("recipient is busy with run 9");
    let (fake, home, mut terminal) = (script.start(), Home::new(), Terminal::open());
    home.file("hello.yml", "- hosts: all\n");
    let mut command = home.command(&fake, &["run", "hello.yml", "--follow"]);
    let child = command.stderr(terminal.end()).spawn().unwrap();
    terminal.read_until("recipient is busy with run 9");
    send(&child, Signal::INT);
    assert_eq!(ended(child.wait_with_output().unwrap()).status, 130);
}
