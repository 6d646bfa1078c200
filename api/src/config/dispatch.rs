//! What a dispatch and its runs are told: addresses, intervals, blocked organisations.

use super::{
    source::{Source, Spec},
    values::Switch,
};

const PUBLIC_URL: Spec = Spec {
    names: &["PUBLIC_URL"],
    about: "The address under which others reach the service; every absolute address starts so.",
    allowed: "http:// or https:// with a host, without user or query",
    secret: false,
};
const WEB_CONSOLE_URL: Spec = Spec {
    names: &["WEB_CONSOLE_URL_DEFAULT"],
    about: "Where people look at a run that names no address of its own.",
    allowed: "an http:// or https:// address",
    secret: false,
};
const RESPONSE_INTERVAL: Spec = Spec {
    names: &["RESPONSE_INTERVAL"],
    about: "Seconds between the uploads of a foreign host, as it is told.",
    allowed: "1 to 86400",
    secret: false,
};
const BLOCKLIST: Spec = Spec {
    names: &["BLOCKLIST_ORG_IDS"],
    about: "Organisations whose dispatches are refused, whose uploads are dropped, and whose run hosts \
            services are not shown.",
    allowed: "organisation ids, separated by commas",
    secret: false,
};
const DEMO_MODE: Spec = Spec {
    names: &["DEMO_MODE"],
    about: "Whether every run gets the zero correlation id.",
    allowed: "true or false",
    secret: false,
};
const SATELLITE_FULL: Spec = Spec {
    names: &["SATELLITE_RESPONSE_FULL"],
    about: "Whether Satellites are asked to send everything so far with each upload.",
    allowed: "true or false",
    secret: false,
};

/// What a dispatch and its runs are told.
#[derive(Clone, Debug)]
pub struct DispatchSettings {
    /// Without a slash at the end.
    pub public_url: String,
    /// The default of `web_console_url`.
    pub web_console_url: String,
    /// Seconds between uploads of foreign hosts.
    pub response_interval: u32,
    /// Organisations that may not dispatch, and are not listened to.
    pub blocklist: Vec<String>,
    /// Zero correlation ids.
    pub demo_mode: bool,
    /// `response_full` of runs behind a Satellite.
    pub satellite_response_full: bool,
}

impl DispatchSettings {
    /// Reads them. `own_url` stands for `PUBLIC_URL` where it is known (standalone).
    pub fn read(source: &mut Source, own_url: Option<&str>) -> Self {
        let public_url = public_url(source, own_url);
        let web_console_url = source.parsed(&WEB_CONSOLE_URL, public_url.clone());
        if !web_console_url.is_empty() && !is_http(&web_console_url) {
            source.reject(&WEB_CONSOLE_URL, &web_console_url);
        }
        Self {
            public_url,
            web_console_url,
            response_interval: source.within(&RESPONSE_INTERVAL, 600, 1..=86_400),
            blocklist: blocklist(source),
            demo_mode: source.parsed(&DEMO_MODE, Switch(false)).0,
            satellite_response_full: source.parsed(&SATELLITE_FULL, Switch(true)).0,
        }
    }

    /// Whether an organisation is blocked.
    #[must_use]
    pub fn is_blocked(&self, org_id: &str) -> bool {
        self.blocklist.iter().any(|blocked| blocked == org_id)
    }
}

fn public_url(source: &mut Source, own: Option<&str>) -> String {
    let given = source.text(&PUBLIC_URL);
    let Some(url) = given.or_else(|| own.map(str::to_owned)) else {
        source.error("PUBLIC_URL is required: the address under which others reach the service");
        return String::new();
    };
    if !is_http(&url) || url.contains(['?', '#', '@']) {
        source.reject(&PUBLIC_URL, &url);
    }
    url.trim_end_matches('/').to_owned()
}

fn is_http(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Entries are trimmed, and an empty list blocks nobody.
fn blocklist(source: &mut Source) -> Vec<String> {
    let list = source.text(&BLOCKLIST).unwrap_or_default();
    list.split(',').map(str::trim).filter(|org| !org.is_empty()).map(str::to_owned).collect()
}
