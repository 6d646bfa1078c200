//! Lines in their colours, in whatever pieces they come, and nothing that steers a terminal.

use super::*;

fn whole(finish: Finish, text: &[u8]) -> String {
    let mut painter = Painter::new(finish);
    let mut shown = painter.feed(text);
    shown.extend(painter.end());
    String::from_utf8(shown).unwrap()
}

fn coloured(text: &str) -> String {
    whole(Finish::Coloured, text.as_bytes())
}

const OUTPUT: &str = "\nPLAY [all] ****\n\nTASK [say] ****\nok: [localhost] => {\n    \"msg\": \"hi\"\n}\n\
                      changed: [web1]\nskipping: [web2]\nfatal: [web3]: UNREACHABLE! => {}\n\
                      PLAY RECAP ****\nlocalhost : ok=1    changed=0    failed=0\n\
                      web1 : ok=1    changed=1    failed=0\nweb3 : ok=0 unreachable=1\n\nafter\n";

#[test]
fn lines_have_the_colours_of_ansibles_words() {
    let want = "\n\x1b[1mPLAY [all] ****\x1b[0m\n\n\x1b[1mTASK [say] ****\x1b[0m\n\
        \x1b[32mok: [localhost] => {\x1b[0m\n\x1b[32m    \"msg\": \"hi\"\x1b[0m\n\x1b[32m}\x1b[0m\n\
        \x1b[33mchanged: [web1]\x1b[0m\n\x1b[36mskipping: [web2]\x1b[0m\n\
        \x1b[31mfatal: [web3]: UNREACHABLE! => {}\x1b[0m\n\x1b[1mPLAY RECAP ****\x1b[0m\n\
        \x1b[32mlocalhost\x1b[0m : \x1b[32mok=1\x1b[0m    changed=0    failed=0\n\
        \x1b[33mweb1\x1b[0m : \x1b[32mok=1\x1b[0m    \x1b[33mchanged=1\x1b[0m    failed=0\n\
        \x1b[31mweb3\x1b[0m : ok=0 \x1b[31munreachable=1\x1b[0m\n\nafter\n";
    assert_eq!(coloured(OUTPUT), want);
}

#[test]
fn pieces_of_any_size_paint_the_same() {
    for size in 1..20 {
        let mut painter = Painter::new(Finish::Coloured);
        let mut shown = Vec::new();
        for piece in OUTPUT.as_bytes().chunks(size) {
            shown.extend(painter.feed(piece));
        }
        shown.extend(painter.end());
        assert_eq!(String::from_utf8(shown).unwrap(), coloured(OUTPUT), "{size}");
    }
}

#[test]
fn plain_is_what_was_printed_without_escapes() {
    assert_eq!(whole(Finish::Plain, OUTPUT.as_bytes()), OUTPUT);
    let mut painter = Painter::new(Finish::Plain);
    assert_eq!(painter.feed(b"a\0\xff\r\nb\x1b[0;32mok\x1b[0m"), b"a\0\xff\r\n");
    assert_eq!(painter.end(), b"bok");
}

#[test]
fn colours_that_ansible_set_are_replaced() {
    let line = "\x1b[0;33mok: [a]\x1b[0m\n";
    assert_eq!(coloured(line), "\x1b[32mok: [a]\x1b[0m\n");
}

#[test]
fn output_cannot_steer_the_terminal() {
    let title =
        b"a\x1b]0;title\x07b\x1b]52;c;x\x1b\\c\x1bP1$r\x1b\\d\x1b(Be\x1bcf\x1b[2J\x1b[?1049hg\n";
    assert_eq!(whole(Finish::Visible, title), "abcdefg\n");
    assert_eq!(whole(Finish::Plain, title), "abcdefg\n");
    assert_eq!(whole(Finish::Visible, b"a\x00b\x08c\rd\te\r\n"), "a^@b^Hc^Md\te\n");
    assert_eq!(whole(Finish::Visible, "x\u{9b}2Jy\n".as_bytes()), "x\u{fffd}2Jy\n");
    assert_eq!(whole(Finish::Visible, b"\x1b]never ended\nnext\n"), "\nnext\n");
    assert_eq!(whole(Finish::Visible, b"end\x1b"), "end\n", "the last line ends");
}

#[test]
fn diffs_are_coloured_until_they_end() {
    let text = "--- before: /etc/a\n+++ after: b\n@@ -1 +1 @@\n-old\n+new\n same\n\n-plain\n";
    let want = "--- before: /etc/a\n\x1b[32m+++ after: b\x1b[0m\n\x1b[36m@@ -1 +1 @@\x1b[0m\n\
                \x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n same\n\n-plain\n";
    assert_eq!(coloured(text), want);
}

#[test]
fn a_line_without_end_is_not_held_for_ever() {
    let mut painter = Painter::new(Finish::Plain);
    let piece = vec![b'x'; MAX_LINE + 1];
    assert_eq!(painter.feed(&piece).len(), MAX_LINE + 1);
    assert!(painter.held.is_empty());
}
