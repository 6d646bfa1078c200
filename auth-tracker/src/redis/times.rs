//! Last-authentication times in Redis, under the names that existing tools know (contract §8): a
//! key per principal, a set with the names of those that are not in the database yet.
//!
//! Nothing here removes a name before somebody says that its time is written down.

use std::time::Duration;

use time::OffsetDateTime;

use super::AuthRedis;
use crate::{
    layout::{DIRTY, FAILED, SYNCING, last_auth},
    ports::{LastAuth, PortError},
};

/// How long a time is kept: longer than a set that names it.
const TIME_TTL: Duration = Duration::from_secs(8 * 24 * 3600);
/// How long a set is kept whose writing was interrupted.
const SYNCING_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long a set is kept whose writing failed.
const FAILED_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most times that are sent at once.
const BATCH: usize = 500;
/// The most sets that are looked for at once.
const MOST_SETS: usize = 1_000;
/// The longest name that is read.
const LONGEST_NAME: usize = 512;

/// Notes times that are newer than those known, and their names, in one step.
const NOTE: &str = "
    for i = 2, #KEYS do
        local held = redis.pcall('GET', KEYS[i])
        held = type(held) == 'string' and tonumber(held) or nil
        if not held or held < tonumber(ARGV[i]) then
            redis.call('SET', KEYS[i], ARGV[i], 'EX', ARGV[1])
            redis.call('SADD', KEYS[1], KEYS[i])
        end
    end";

/// Takes the set of names away under a name of its own: 1. There is none: 0. The name is in use: 2.
const TAKE: &str = "
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    if redis.call('EXISTS', KEYS[2]) == 1 then return 2 end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('EXPIRE', KEYS[2], ARGV[1])
    return 1";

/// Renames a set that could not be written, where the new name is free, and keeps it for longer.
const KEEP: &str = "
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    local name = KEYS[1]
    if redis.call('RENAMENX', KEYS[1], KEYS[2]) == 1 then name = KEYS[2] end
    redis.call('EXPIRE', name, ARGV[1])
    return 1";

/// What came of taking the names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taken {
    /// They are under this name now.
    As(String),
    /// There are none.
    Nothing,
    /// Another set was taken in this very second; try again in the next.
    Later,
}

impl AuthRedis {
    /// Notes times, and that they are not in the database yet. None moves backwards.
    ///
    /// # Errors
    /// When Redis fails; some may be noted.
    pub async fn note(&self, times: &[LastAuth]) -> Result<(), PortError> {
        for batch in times.chunks(BATCH) {
            let mut command = redis::cmd("EVAL");
            command.arg(NOTE).arg(batch.len() + 1).arg(DIRTY);
            for time in batch {
                command.arg(last_auth(&time.kind, &time.id));
            }
            command.arg(TIME_TTL.as_secs());
            for time in batch {
                command.arg(time.at.unix_timestamp());
            }
            self.ask::<()>(&command).await?;
        }
        Ok(())
    }

    /// Takes the names of times that are to be written down.
    ///
    /// # Errors
    /// When Redis fails; they may be taken, and are found by [`AuthRedis::left`].
    pub async fn take(&self, now: OffsetDateTime) -> Result<Taken, PortError> {
        let name = format!("{SYNCING}{}", now.unix_timestamp());
        let mut command = redis::cmd("EVAL");
        command.arg(TAKE).arg(2).arg(DIRTY).arg(&name).arg(SYNCING_TTL.as_secs());
        Ok(match self.ask::<u8>(&command).await? {
            0 => Taken::Nothing,
            1 => Taken::As(name),
            _ => Taken::Later,
        })
    }

    /// The sets whose writing was interrupted or failed. Looks at every key, so not often.
    ///
    /// # Errors
    /// When Redis fails.
    pub async fn left(&self) -> Result<Vec<String>, PortError> {
        let mut cursor = 0_u64;
        let mut left = Vec::new();
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(format!("{SYNCING}*")).arg("COUNT").arg(1_000);
            let (next, names): (u64, Vec<String>) = self.ask(&command).await?;
            left.extend(names);
            if next == 0 || left.len() >= MOST_SETS {
                // A scan may name a key twice.
                left.sort_unstable();
                left.dedup();
                return Ok(left);
            }
            cursor = next;
        }
    }

    /// Some of the times that a set names, from a place in it (0 at first), and the place to go on
    /// from (0 at the end). Times that are gone, or none, are left out; one in the future counts as
    /// now, or it would never be replaced.
    ///
    /// # Errors
    /// When Redis fails.
    pub async fn times(
        &self,
        set: &str,
        from: u64,
        now: OffsetDateTime,
    ) -> Result<(Vec<LastAuth>, u64), PortError> {
        let mut command = redis::cmd("SSCAN");
        command.arg(set).arg(from).arg("COUNT").arg(BATCH);
        let (next, names): (u64, Vec<Vec<u8>>) = self.ask(&command).await?;
        let named: Vec<_> = names.iter().filter_map(|name| principal(name)).collect();
        if named.is_empty() {
            return Ok((Vec::new(), next));
        }
        let mut command = redis::cmd("MGET");
        for (kind, id) in &named {
            command.arg(last_auth(kind, id));
        }
        let values: Vec<Option<String>> = self.ask(&command).await?;
        let times = named.into_iter().zip(values).filter_map(|((kind, id), value)| {
            let seconds: i64 = value?.parse().ok()?;
            let at = OffsetDateTime::from_unix_timestamp(seconds).ok()?.min(now);
            (seconds > 0).then(|| LastAuth { kind: kind.to_owned(), id: id.to_owned(), at })
        });
        Ok((times.collect(), next))
    }

    /// Removes a set whose times are all written down.
    ///
    /// # Errors
    /// When Redis fails; it is written once more then, which changes nothing.
    pub async fn written(&self, set: &str) -> Result<(), PortError> {
        let mut command = redis::cmd("DEL");
        command.arg(set);
        self.ask::<u64>(&command).await.map(drop)
    }

    /// Keeps a set that could not be written.
    ///
    /// # Errors
    /// When Redis fails; it stays under its name then.
    pub async fn keep(&self, set: &str, now: OffsetDateTime) -> Result<(), PortError> {
        if set.starts_with(FAILED) {
            return Ok(());
        }
        let mut command = redis::cmd("EVAL");
        let name = format!("{FAILED}{}", now.unix_timestamp());
        command.arg(KEEP).arg(2).arg(set).arg(name).arg(FAILED_TTL.as_secs());
        self.ask::<u8>(&command).await.map(drop)
    }
}

/// Kind and id in the name of a time; anything else is not ours.
fn principal(name: &[u8]) -> Option<(&str, &str)> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= LONGEST_NAME)?;
    let (kind, id) = name.strip_prefix("last_auth:")?.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (!kind.is_empty() && kind.len() <= 32 && kind.bytes().all(plain) && !id.is_empty())
        .then_some((kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_once() {
        let name = last_auth("user", "realm:a:b");
        assert_eq!(principal(name.as_bytes()), Some(("user", "realm:a:b")));
        for other in ["last_auth:user:", "last_auth::x", "last_auth:user", "x", "last_auth:U:x"] {
            assert_eq!(principal(other.as_bytes()), None, "{other}");
        }
        assert_eq!(principal(last_auth("user", &"x".repeat(600)).as_bytes()), None);
        assert_eq!(principal(b"last_auth:user:\xff"), None);
    }
}
