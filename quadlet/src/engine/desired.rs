//! What is asked of this host, whole: variables, every file, the image, the digests of inputs.
//! Reads Podman's secrets and images; changes nothing but names of images.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    balancer,
    failure::{Exit, Failure},
    image::Pin,
    inputs::{self, Unit},
    plan::Asked,
};
use crate::{
    entry::{Concerns, Entry},
    host::{Host, health},
    layout::Layout,
    render::{image_pin, render},
    variables::{Upstream, Variables},
};

/// The stem of the instances' unit.
pub const INSTANCES: &str = "dispatcher-api@";
/// The stem of the tracker's unit.
pub const TRACKER: &str = "dispatcher-auth-tracker";

/// What is asked of a host.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The variables.
    pub variables: Variables,
    /// Every file and link.
    pub entries: Vec<Entry>,
    /// For the plan.
    pub asked: Asked,
    /// The image of instances and tracker.
    pub pin: Pin,
}

/// The unit of an instance.
#[must_use]
pub fn instance(index: u16) -> String {
    format!("{INSTANCES}{index}.service")
}

/// The number of the instance whose unit that is.
#[must_use]
pub fn index(unit: &str) -> Option<u16> {
    unit.strip_prefix(INSTANCES)?.strip_suffix(".service")?.parse().ok()
}

impl Desired {
    /// Puts it together.
    ///
    /// # Errors
    /// When a template or Podman refuses, or a secret is not there.
    pub async fn new(host: &Host, variables: Variables, pin: Pin) -> Result<Self, Failure> {
        let layout = &host.layout;
        let mut entries = render(&variables, layout)?;
        entries.extend(image_pin(&variables, layout, &pin.reference));
        let secrets = host.podman.secrets().await?;
        let units = inputs::units(&entries, &secrets);
        // Where none is asked for, the unit of the instances is there and nothing is made of it.
        let used = |unit: &&Unit| variables.scale() > 0 || unit.stem != INSTANCES;
        all_secrets_there(units.iter().filter(used), &secrets)?;
        let own = own_inputs(&entries, layout, variables.scale());
        entries.extend(units.iter().map(|unit| label_of(unit, layout)));
        entries.extend(own.iter().map(|(index, digest)| label_of_own(*index, digest, layout)));
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let asked = asked(&variables, &entries, &units, &own);
        Ok(Self { variables, entries, asked, pin })
    }

    /// How to ask an instance whether it is well.
    #[must_use]
    pub fn question(&self, layout: &Layout, index: u16) -> health::Question {
        let variables = &self.variables;
        let address = match variables.upstream() {
            Upstream::Unix => {
                health::Address::Unix(layout.runtime.join(index.to_string()).join("api.sock"))
            }
            Upstream::Tcp => {
                let host = match variables.text("dispatcher_api_publish_address") {
                    "" | "0.0.0.0" => "127.0.0.1",
                    address => address,
                };
                let port = variables.number("dispatcher_api_publish_port") + i64::from(index);
                health::Address::Tcp(format!("{host}:{port}"))
            }
        };
        let path = variables.text("dispatcher_haproxy_check_path").to_owned();
        health::Question { address, method: "GET".to_owned(), path }
    }

    /// What HAProxy is started with, where its unit is ours.
    #[must_use]
    pub fn haproxy_unit(&self) -> Option<String> {
        balancer::started_with(&self.entries)
    }

    /// The files of HAProxy.
    pub fn balancer(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.concerns == Concerns::Haproxy)
    }
}

fn asked(
    variables: &Variables,
    entries: &[Entry],
    units: &[Unit],
    own: &BTreeMap<u16, String>,
) -> Asked {
    let of =
        |stem: &str| units.iter().find(|unit| unit.stem == stem).map(|unit| unit.inputs.clone());
    let shared = of(INSTANCES).unwrap_or_default();
    let instance = |index: u16| {
        own.get(&index).map_or_else(|| shared.clone(), |own| format!("{shared}+{own}"))
    };
    let service = |stem: &str| Some((format!("{stem}.service"), of(stem)?));
    let scale = u16::try_from(variables.scale()).unwrap_or(u16::MAX);
    let is_haproxy = |entry: &&Entry| entry.concerns == Concerns::Haproxy;
    Asked {
        units: inputs::of_entries(entries.iter().filter(|entry| !is_haproxy(entry))),
        balancer: variables.has_haproxy().then(|| {
            let is_read = |entry: &&Entry| {
                matches!(entry.concerns, Concerns::Haproxy | Concerns::HaproxyUnit)
            };
            inputs::of_entries(entries.iter().filter(is_read))
        }),
        services: variables.services().into_iter().filter_map(service).collect(),
        instances: (0..scale).map(instance).collect(),
        tracker: service(TRACKER),
    }
}

fn all_secrets_there<'a>(
    units: impl Iterator<Item = &'a Unit>,
    secrets: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let mut missing: Vec<&str> = units.flat_map(|unit| &unit.secrets).map(String::as_str).collect();
    missing.retain(|name| !secrets.contains_key(*name));
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Lacking,
        format!(
            "podman has no secret {}: `quadletgen init` makes those that can be made, `quadletgen secret set NAME` \
             takes the others from standard input",
            missing.join(", ")
        ),
    ))
}

fn own_inputs(entries: &[Entry], layout: &Layout, scale: u32) -> BTreeMap<u16, String> {
    let scale = u16::try_from(scale).unwrap_or(u16::MAX);
    (0..scale)
        .filter_map(|index| Some((index, inputs::own(entries, &instance_file(layout, index))?)))
        .collect()
}

fn instance_file(layout: &Layout, index: u16) -> PathBuf {
    layout.quadlets.join(format!("{INSTANCES}{index}.container"))
}

fn label_of(unit: &Unit, layout: &Layout) -> Entry {
    let concerns = match unit.stem.as_str() {
        INSTANCES => Concerns::Instances,
        TRACKER => Concerns::Tracker,
        _ => Concerns::Service,
    };
    let path = layout.quadlets.join(format!("{}.container", unit.stem));
    inputs::label(&path, inputs::SHARED, &unit.inputs, concerns)
}

fn label_of_own(index: u16, digest: &str, layout: &Layout) -> Entry {
    inputs::label(&instance_file(layout, index), inputs::OWN, digest, Concerns::Instances)
}
