//! Turns for everybody who uses this Redis: a token bucket by its own clock, in one question.

use std::time::Duration;

use super::AuthRedis;
use crate::ports::PortError;

/// Takes a token of a bucket; how many microseconds it is until it is there.
///
/// `due` is when the bucket would be full again if it never lost a token more, in microseconds: one
/// number is the whole bucket, and the order of asking is the order of turns. A clock that went back
/// (another server, with another clock) takes `due` along. Something of another type is nothing. The
/// bucket goes by itself once it is full.
const TAKE: &str = "
    local per_token, burst = 1000000 / tonumber(ARGV[1]), tonumber(ARGV[2])
    local time = redis.call('TIME')
    local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local held = redis.pcall('HMGET', KEYS[1], 'due', 'at')
    if held.err then
        redis.call('DEL', KEYS[1])
        held = {}
    end
    local due, at = tonumber(held[1] or ''), tonumber(held[2] or '')
    if due and at and now < at then due = due - (at - now) end
    due = math.max(due or now, now) + per_token
    redis.call('HSET', KEYS[1], 'due', string.format('%.0f', due), 'at', string.format('%.0f', now))
    redis.call('PEXPIRE', KEYS[1], math.ceil((due - now) / 1000) + 1000)
    return math.max(0, math.ceil(due - now - burst * per_token))";

impl AuthRedis {
    /// Takes a token of a bucket that is filled with so many a second and holds `burst`; how long it
    /// is until the token is there.
    ///
    /// # Errors
    /// When Redis fails; a token may be taken all the same.
    pub async fn take_turn(
        &self,
        bucket: &str,
        per_second: u32,
        burst: u32,
    ) -> Result<Duration, PortError> {
        let mut command = redis::cmd("EVAL");
        command.arg(TAKE).arg(1).arg(bucket).arg(per_second.max(1)).arg(burst.max(1));
        self.ask(&command).await.map(Duration::from_micros)
    }
}
