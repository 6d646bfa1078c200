//! The forms that values of settings take: sizes, durations, addresses to listen on.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// A number of bytes: `512KB` (decimal), `1MiB`, `4096`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub u64);

/// Units and what they stand for, in the order in which `Display` tries them.
const UNITS: [(&str, u64); 7] = [
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("GIB", 1 << 30),
    ("MIB", 1 << 20),
    ("KIB", 1 << 10),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = match unit.trim().to_ascii_uppercase().as_str() {
            "" | "B" => "B".to_owned(),
            short @ ("K" | "M" | "G") => format!("{short}B"),
            long => long.to_owned(),
        };
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(())?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let whole: u64 = whole.parse().map_err(drop)?;
        let part = part_of(*factor, fraction).ok_or(())?;
        whole.checked_mul(*factor).and_then(|whole| whole.checked_add(part)).map(Self).ok_or(())
    }
}

/// The bytes that digits behind the point stand for; what is less than a byte does not count.
fn part_of(unit: u64, digits: &str) -> Option<u64> {
    let parts = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let fraction = digits.parse::<u64>().ok()?;
    u64::try_from(u128::from(fraction) * u128::from(unit) / parts).ok()
}

/// On or off, in whichever words: `true` and `false`, `1` and `0`, `t` and `f`, in capitals as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Self(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Self(false)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = exact.copied().unwrap_or(("B", 1));
        let name = name.replace('I', "i");
        write!(f, "{}{}", self.0 / factor, if name == "B" { "" } else { &name })
    }
}

/// A time span in seconds, with a fraction where it matters: `30`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// A whole number of them.
    #[must_use]
    pub const fn whole(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Seconds {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let seconds: f64 = text.trim_end_matches('s').parse().map_err(drop)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(drop)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

/// How old something may become: `30d`, `12h`, `90m`, `45s`, or seconds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Age(Duration);

/// Units of an age and their seconds, in the order in which `Display` tries them.
const AGES: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// A hundred years: what is older is not from here.
const OLDEST: u64 = 100 * 365 * 86_400;

impl Age {
    /// As a time span.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known =
            AGES.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)));
        let (number, unit) = known.unwrap_or((text, &1));
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
        match seconds.filter(|seconds| (1..=OLDEST).contains(seconds)) {
            Some(seconds) => Ok(Self(Duration::from_secs(seconds))),
            None => {
                Err(format!("{text} is not an age; allowed: 30d, 12h, 90m or seconds, from 1s"))
            }
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let exact = AGES.iter().find(|(_, unit)| seconds.is_multiple_of(*unit));
        let (unit, factor) = exact.copied().unwrap_or(('s', 1));
        write!(f, "{}{unit}", seconds / factor)
    }
}

/// Where the service listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// `tcp:<address>:<port>`.
    Tcp(SocketAddr),
    /// `unix:<path>`.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(()) };
        }
        let address = text.strip_prefix("tcp:").unwrap_or(text);
        address.parse().map(Self::Tcp).map_err(drop)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A comma list of addresses to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenList(pub Vec<ListenAddress>);

impl FromStr for ListenList {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let list: Result<Vec<_>, ()> = text.split(',').map(|entry| entry.trim().parse()).collect();
        list.map(Self)
    }
}

impl fmt::Display for ListenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_unless_they_say_otherwise() {
        for (text, bytes) in
            [("512KB", 512_000), ("512K", 512_000), ("1MiB", 1 << 20), ("7", 7), ("0", 0)]
        {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes);
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
        for (text, bytes) in
            [("1.5MB", 1_500_000), ("0.5 KiB", 512), ("1.9", 1), ("512kb", 512_000)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for bad in ["", "KB", "-1", ".5MB", "1.MB", "1.5.5MB", "1XB", "99999999999GB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_know_every_word_of_the_original() {
        for (words, on) in [("1 t T true True TRUE", true), ("0 f F false False FALSE", false)] {
            for word in words.split(' ') {
                assert_eq!(word.parse(), Ok(Switch(on)), "{word}");
            }
        }
        for bad in ["", "yes", "on", "2", "tRUE"] {
            assert!(bad.parse::<Switch>().is_err(), "{bad}");
        }
        assert_eq!(Switch(true).to_string(), "true");
    }

    #[test]
    fn ages_have_units_and_a_beginning() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("90m", 5_400), ("45", 45)] {
            let age: Age = text.parse().unwrap();
            assert_eq!(age.duration().as_secs(), seconds);
            assert_eq!(age.to_string().parse::<Age>().unwrap(), age);
        }
        for bad in ["", "d", "0", "-1d", "1.5h", "1y", "99999999999999999999d", "40000d"] {
            assert!(bad.parse::<Age>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_round_trip() {
        let list: ListenList = "tcp:127.0.0.1:0, unix:/run/x.sock,[::1]:80".parse().unwrap();
        assert_eq!(list.to_string(), "tcp:127.0.0.1:0,unix:/run/x.sock,tcp:[::1]:80");
        for bad in ["", "tcp:localhost:80", "unix:relative", "80", "tcp:1.2.3.4:80,"] {
            assert!(bad.parse::<ListenList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_and_are_never_negative() {
        assert_eq!("0.5".parse::<Seconds>().unwrap().0, Duration::from_millis(500));
        assert!("-1".parse::<Seconds>().is_err() && "x".parse::<Seconds>().is_err());
    }
}
