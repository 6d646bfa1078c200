//! What of a variable's value Ansible's types cannot say: ranges of numbers, forms of texts.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
};

use serde_json::Value;

/// The ranges of numbers.
const RANGES: [(&str, RangeInclusive<i64>); 46] = [
    ("dispatcher_api_container_scale", 0..=256),
    ("dispatcher_api_container_port", 1..=65_535),
    ("dispatcher_api_health_interval", 1..=3600),
    ("dispatcher_api_start_timeout", 1..=3600),
    ("dispatcher_api_drain_delay", 0..=3600),
    ("dispatcher_api_graceful_timeout", 0..=3600),
    ("dispatcher_api_watchdog", 0..=3600),
    ("dispatcher_api_publish_port", 1..=65_535),
    ("dispatcher_api_metrics_port", 0..=65_535),
    ("dispatcher_uid_base", 65_536..=4_293_918_720),
    ("dispatcher_db_port", 1..=65_535),
    ("dispatcher_worker_concurrency", 1..=1024),
    ("dci_api_container_scale", 0..=256),
    ("gunicorn_nb_workers", 1..=1024),
    ("gunicorn_worker_connections", 1..=1_000_000),
    ("gunicorn_max_requests", 0..=1_000_000_000),
    ("gunicorn_max_requests_jitter", 0..=1_000_000_000),
    ("gunicorn_timeout", 0..=3600),
    ("gunicorn_graceful_timeout", 0..=3600),
    ("sqlalchemy_pool_size", 0..=1000),
    ("sqlalchemy_max_overflow", -1..=1000),
    ("max_content_length_mb", 0..=1_048_576),
    ("dispatcher_haproxy_https_port", 1..=65_535),
    ("dispatcher_haproxy_http_port", 1..=65_535),
    ("dispatcher_haproxy_hsts_seconds", 0..=63_072_000),
    ("dispatcher_rate_limit_requests", 0..=10_000_000),
    ("dispatcher_rate_limit_seconds", 1..=3600),
    ("dispatcher_haproxy_maxconn", 10..=1_000_000),
    ("dispatcher_haproxy_source_maxconn", 0..=1_000_000),
    ("dispatcher_haproxy_server_maxconn", 0..=1_000_000),
    ("dispatcher_haproxy_buffer_bytes", 16_384..=1_048_576),
    ("dispatcher_haproxy_headers", 20..=1000),
    ("dispatcher_haproxy_h2_streams", 1..=1000),
    ("dispatcher_haproxy_hard_stop_after", 1..=86_400),
    ("dispatcher_haproxy_timeout_http_request", 1..=3600),
    ("dispatcher_haproxy_timeout_keep_alive", 1..=3600),
    ("dispatcher_haproxy_timeout_client", 1..=86_400),
    ("dispatcher_haproxy_timeout_connect", 1..=60),
    ("dispatcher_haproxy_timeout_queue", 1..=3600),
    ("dispatcher_haproxy_timeout_server", 1..=86_400),
    ("dispatcher_haproxy_timeout_stream", 1..=604_800),
    ("dispatcher_haproxy_retries", 0..=100),
    ("dispatcher_haproxy_check_interval_ms", 50..=60_000),
    ("dispatcher_haproxy_check_timeout_ms", 50..=60_000),
    ("dispatcher_haproxy_check_fall", 1..=100),
    ("dispatcher_haproxy_check_rise", 1..=100),
];

/// What a text may look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// A reference of an image: no blanks, not empty.
    Image,
    /// A name of a network of Podman or of its unit.
    Network,
    /// `uid` or `uid:gid`, or empty.
    User,
    /// An amount of memory in systemd's words, or empty.
    Memory,
    /// A share of a processor in per cent, or empty.
    Percent,
    /// An http or https address without user and password, or empty.
    Web,
    /// An address with any scheme and no password, or empty.
    Url,
    /// An IP address, or empty.
    Address,
    /// An IPv4 address.
    Interface,
    /// Hosts separated by commas, or one directory of a socket.
    Hosts,
    /// A key with a value.
    UnitLine,
    /// A network such as 10.0.0.0/8, or empty.
    Cidr,
    /// A name of a group.
    Group,
    /// A name in the database.
    Identifier,
    /// Where HAProxy takes requests: an IP address or `*`.
    Entrance,
    /// An IP address and a port, or empty.
    Listen,
    /// A name in a certificate: one line without quotes, backslashes and variables of HAProxy's.
    CommonName,
    /// The path of an address.
    Path,
    /// An absolute path that a line of HAProxy's file can hold, or empty.
    File,
    /// An organisation.
    Organisation,
    /// A target of HAProxy's log.
    LogTarget,
    /// A name, an address, a port.
    Server,
}

const FORMS: [(&str, Form); 45] = [
    ("dispatcher_worker_org", Form::Organisation),
    ("dispatcher_api_image", Form::Image),
    ("dispatcher_postgresql_image", Form::Image),
    ("dispatcher_redis_image", Form::Image),
    ("dispatcher_rabbitmq_image", Form::Image),
    ("dispatcher_api_container_network", Form::Network),
    ("dci_api_container_network", Form::Network),
    ("dispatcher_api_container_user", Form::User),
    ("dispatcher_api_memory_max", Form::Memory),
    ("dispatcher_auth_tracker_memory_max", Form::Memory),
    ("dispatcher_postgresql_memory_max", Form::Memory),
    ("dispatcher_redis_memory_max", Form::Memory),
    ("dispatcher_rabbitmq_memory_max", Form::Memory),
    ("dispatcher_worker_memory_max", Form::Memory),
    ("dispatcher_api_cpu_quota", Form::Percent),
    ("dispatcher_public_url", Form::Web),
    ("dispatcher_worker_url", Form::Web),
    ("dispatcher_redis_url", Form::Url),
    ("dci_redis_url", Form::Url),
    ("amqp_broker_url", Form::Url),
    ("dispatcher_api_publish_address", Form::Interface),
    ("dbhost", Form::Hosts),
    ("dispatcher_api_container_options", Form::UnitLine),
    ("dispatcher_network_gateway", Form::Address),
    ("dispatcher_network_subnet", Form::Cidr),
    ("dispatcher_gateway_cidrs", Form::Cidr),
    ("dispatcher_balancer_cidrs", Form::Cidr),
    ("dispatcher_haproxy_group", Form::Group),
    ("dispatcher_db_name", Form::Identifier),
    ("dbuser", Form::Identifier),
    ("store_s3_endpoint_url", Form::Web),
    ("dispatcher_haproxy_user", Form::Group),
    ("dispatcher_haproxy_addresses", Form::Entrance),
    ("dispatcher_haproxy_stats_address", Form::Listen),
    ("dispatcher_gateway_certificate_names", Form::CommonName),
    ("dispatcher_haproxy_check_path", Form::Path),
    ("dispatcher_tls_certificate", Form::File),
    ("dispatcher_tls_client_ca", Form::File),
    ("haproxy_config_dir", Form::File),
    ("dispatcher_haproxy_base_file", Form::File),
    ("dispatcher_haproxy_program", Form::File),
    ("dispatcher_haproxy_master_socket", Form::File),
    ("dispatcher_haproxy_stats_socket", Form::File),
    ("dispatcher_haproxy_log", Form::LogTarget),
    ("dispatcher_haproxy_servers", Form::Server),
];

/// What is allowed, where this value is not.
pub(super) fn objection(name: &str, value: &Value) -> Option<String> {
    if let (Some(number), Some(range)) = (value.as_i64(), range(name)) {
        let allowed = || format!("whole numbers from {} to {}", range.start(), range.end());
        return (!range.contains(&number)).then(allowed);
    }
    let form = FORMS.iter().find(|(own, _)| *own == name).map(|(_, form)| *form)?;
    let texts = match value {
        Value::Array(texts) => texts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut texts = texts.iter().filter_map(Value::as_str);
    texts.any(|text| !form.fits(text)).then(|| form.words().to_owned())
}

/// The range of a number.
pub(super) fn range(name: &str) -> Option<&'static RangeInclusive<i64>> {
    RANGES.iter().find(|(own, _)| *own == name).map(|(_, range)| range)
}

impl Form {
    /// What it is, for people.
    fn words(self) -> &'static str {
        match self {
            Self::Image => "a reference such as registry.example.com/dispatcher-api:1.2",
            Self::Network => "a name of letters, digits and . _ -, such as dispatcher.network",
            Self::User => "numbers such as 10001:10001, each below 65536, or nothing",
            Self::Memory => "a size such as 512M or 2G, a share such as 20%, infinity, or nothing",
            Self::Percent => "a share such as 150%, or nothing",
            Self::Web => "http:// or https:// with a host, without user and password",
            Self::Url => {
                "an address such as redis://host:6379/0 without a password; one with a password is \
                 a secret: `quadletgen secret set NAME`, and NAME in dispatcher_secrets"
            }
            Self::Address => "an IP address",
            Self::Interface => "an IPv4 address, such as 127.0.0.1 or 0.0.0.0",
            Self::Hosts => {
                "names or addresses of hosts, separated by commas, or the directory of a socket"
            }
            Self::UnitLine => "lines such as AddHost=db:10.0.0.7",
            Self::Cidr => "networks such as 10.0.0.0/8",
            Self::Group => "a name of a group: letters, digits, _ and -",
            Self::Identifier => "letters, digits and _, not beginning with a digit, at most 63",
            Self::Entrance => "IP addresses, or * for all of IPv4",
            Self::Listen => "an IP address and a port such as 127.0.0.1:8404, or nothing",
            Self::CommonName => "names of one line, at most 64 characters, without \" ' \\ $",
            Self::Path => "a path such as /health/ready: letters, digits and / . _ ~ -",
            Self::File => "an absolute path of letters, digits and / . _ @ + -",
            Self::Organisation => "1 to 10 letters, digits, _ and -",
            Self::LogTarget => {
                "a target and a facility such as /dev/log local0, or stdout format raw daemon"
            }
            Self::Server => {
                "a name and an IP address with a port, such as api1-0 10.0.0.11:15000; not a name \
                 that begins with dispatcher-api-"
            }
        }
    }

    fn fits(self, text: &str) -> bool {
        let made_of = |more: &str| {
            text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
        };
        match self {
            Self::Image => !text.is_empty() && made_of("._-/:@") && !text.starts_with('-'),
            Self::Network => !text.is_empty() && made_of("._-") && !text.starts_with(['.', '-']),
            Self::User => text.is_empty() || is_user(text),
            Self::Memory => text.is_empty() || is_memory(text),
            Self::Percent => text.is_empty() || is_percent(text),
            Self::Web => text.is_empty() || is_web(text),
            Self::Url => text.is_empty() || is_url(text),
            Self::Address => text.is_empty() || text.parse::<IpAddr>().is_ok(),
            Self::Interface => text.parse::<Ipv4Addr>().is_ok(),
            Self::Hosts if text.starts_with('/') => made_of("/._-") && !text.contains(".."),
            Self::Hosts => made_of("._-:[],"),
            Self::UnitLine => {
                let key = text.split_once('=').map_or("", |(key, _)| key);
                !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric())
            }
            Self::Cidr => text.is_empty() || is_cidr(text),
            Self::Group => !text.is_empty() && made_of("_-") && !text.starts_with('-'),
            Self::Identifier => {
                let starts = text.starts_with(|letter: char| !letter.is_ascii_digit());
                starts && made_of("_") && text.len() <= 63
            }
            Self::Entrance => text == "*" || text.parse::<IpAddr>().is_ok(),
            Self::Listen => text.is_empty() || text.parse::<SocketAddr>().is_ok(),
            Self::CommonName => {
                let fits = |letter: char| !letter.is_control() && !"\"'\\$".contains(letter);
                !text.is_empty() && text.chars().count() <= 64 && text.chars().all(fits)
            }
            Self::Path => text.starts_with('/') && made_of("/._~-"),
            Self::File => text.is_empty() || (text.starts_with('/') && made_of("/._@+-")),
            Self::Organisation => !text.is_empty() && text.len() <= 10 && made_of("_-"),
            Self::LogTarget => !text.is_empty() && made_of("/._-:@ []"),
            Self::Server => is_server(text),
        }
    }
}

/// The names of this host's own instances are taken.
fn is_server(text: &str) -> bool {
    let Some((name, address)) = text.split_once(' ') else { return false };
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let is_name =
        !name.is_empty() && name.chars().all(fits) && !name.starts_with("dispatcher-api-");
    is_name && address.parse::<SocketAddr>().is_ok()
}

fn is_user(text: &str) -> bool {
    let is_id = |text: &str| text.len() <= 5 && text.parse::<u16>().is_ok();
    match text.split_once(':') {
        Some((user, group)) => is_id(user) && is_id(group),
        None => is_id(text),
    }
}

fn is_memory(text: &str) -> bool {
    let digits = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
    text == "infinity" || is_number(digits) || is_percent(text)
}

fn is_percent(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    text.parse::<u64>().is_ok_and(|number| number > 0) && !text.starts_with('+')
}

fn is_web(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| is_printable(rest) && !rest.starts_with('/') && !rest.contains('@'))
        && rest.is_some_and(|rest| !rest.is_empty())
}

/// A user's name alone is no secret, a password behind it is.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|letter| letter.is_ascii_lowercase());
    is_scheme && is_printable(rest) && !user.is_some_and(|user| user.contains(':'))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic())
}
