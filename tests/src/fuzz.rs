//! Fuzzing on the stable toolchain: inputs are mutated from seeds and from words of their language, and
//! those that come to an answer which was not seen before are mutated further.
//!
//! `FUZZ_SECONDS` says how long each target runs (2), `FUZZ_SEED` where its randomness begins. What
//! fails is printed with both.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long one input may take.
const LONGEST: Duration = Duration::from_secs(5);
/// The most inputs that are kept to be mutated.
const MOST_KEPT: usize = 1024;
/// The longest input.
const MAX_INPUT: usize = 64 << 10;
/// What is put into inputs of every language.
const WORDS: [&[u8]; 20] = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"9223372036854775807",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1.0",
    b"\\ud800",
    b"\\u0000",
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"\xff\xfe",
    "ä\u{1F600}".as_bytes(),
];

/// A source of numbers without quality, but repeatable (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default().checked_rem(end).unwrap_or_default()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// What is fuzzed.
pub struct Target<'a> {
    /// Its name, for people.
    pub name: &'a str,
    /// Inputs to begin with.
    pub seeds: Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'a [&'a str],
}

impl Target<'_> {
    /// Runs it until the time is over. `check` answers with what the input came to, in few different
    /// words; it panics where that is wrong.
    ///
    /// # Errors
    /// When an input panics or takes too long, or the process needs more memory than inputs of this
    /// length can explain.
    pub fn run(&self, check: impl Fn(&[u8]) -> String) -> Result<u64> {
        let seconds = number("FUZZ_SECONDS")?.unwrap_or(2);
        let seed = match number("FUZZ_SEED")? {
            Some(seed) => seed,
            None => uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let mut dice = Dice::new(seed);
        let mut kept = self.seeds.clone();
        let mut seen = HashSet::new();
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut runs = 0;
        while Instant::now() < until || runs < self.seeds.len() as u64 {
            // Each seed as it is, then mutations.
            let at = usize::try_from(runs).unwrap_or(usize::MAX);
            let input = match self.seeds.get(at) {
                Some(seed) => seed.clone(),
                None => self.mutated(&kept, &mut dice),
            };
            let started = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| check(&input)));
            let took = started.elapsed();
            let Ok(answer) = answer else { bail!("{}", self.failed("panicked", seed, &input)) };
            if took > LONGEST {
                bail!("{}", self.failed(&format!("took {took:?}"), seed, &input));
            }
            if seen.insert(without_digits(&answer)) && kept.len() < MOST_KEPT {
                kept.push(input);
            }
            runs += 1;
        }
        println!("{}: {runs} inputs, {} different answers, seed {seed}", self.name, seen.len());
        Ok(runs)
    }

    fn failed(&self, what: &str, seed: u64, input: &[u8]) -> String {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = String::from_utf8_lossy(input);
        format!("{} {what} (FUZZ_SEED={seed}) by {text:?}, which is {hex}", self.name)
    }

    fn mutated(&self, kept: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
        let mut input = dice.pick(kept).cloned().unwrap_or_default();
        for _ in 0..=dice.below(4) {
            self.mutate(&mut input, kept, dice);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, kept: &[Vec<u8>], dice: &mut Dice) {
        let at = dice.below(input.len() + 1);
        let end = (at + dice.below(16)).min(input.len());
        match dice.below(8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            1 => drop(input.drain(at..end)),
            2 => {
                let piece = input.get(at..end).unwrap_or_default().repeat(1 + dice.below(40));
                drop(input.splice(at..at, piece));
            }
            3 => {
                let word = dice.pick(&WORDS).copied().unwrap_or_default();
                drop(input.splice(at..end, word.iter().copied()));
            }
            4 => input.truncate(at),
            5 => {
                let other = dice.pick(kept).map(Vec::as_slice).unwrap_or_default();
                let from = dice.below(other.len() + 1);
                let rest = other.get(from..).unwrap_or_default().to_vec();
                drop(input.splice(at..end, rest));
            }
            _ => {
                let word = dice.pick(self.words).copied().unwrap_or_default();
                drop(input.splice(at..end, word.bytes()));
            }
        }
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    let number = text.parse().with_context(|| format!("{name}={text} is not a number"))?;
    Ok(Some(number))
}

/// Answers that differ in numbers only are one.
fn without_digits(answer: &str) -> String {
    answer.chars().filter(|letter| !letter.is_ascii_digit()).take(200).collect()
}

/// The most memory that this process has ever had, in bytes.
///
/// # Errors
/// When the kernel does not say.
pub fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("VmHWM in kB")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
