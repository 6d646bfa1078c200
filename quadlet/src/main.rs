//! The program: its arguments are `cli`'s, its work is the library's.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no command is known yet")
}
