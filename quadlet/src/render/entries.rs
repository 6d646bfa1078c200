//! Which template becomes which file, and who has to hear of a change of it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    RenderError,
    templates::{self, Template},
};
use crate::{
    entry::{Concerns, Entry, What},
    jinja::{self, Context},
    layout::Layout,
    variables::Variables,
};

const READABLE: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// Collects entries.
struct Rendering<'a> {
    variables: &'a Variables,
    layout: &'a Layout,
    context: Context,
    entries: Vec<Entry>,
}

/// Everything, sorted by path.
pub(super) fn all(variables: &Variables, layout: &Layout) -> Result<Vec<Entry>, RenderError> {
    let context = with_directories(variables.context().clone(), layout);
    let mut rendering = Rendering { variables, layout, context, entries: Vec::new() };
    rendering.shared()?;
    rendering.instances()?;
    rendering.tracker()?;
    rendering.services()?;
    rendering.worker()?;
    rendering.haproxy()?;
    let mut entries = rendering.entries;
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// The drop-ins that pin the image.
pub(super) fn pins(variables: &Variables, layout: &Layout, reference: &str) -> Vec<Entry> {
    let content = format!(
        "# Made by Dispatcher's toolkit: changes here are lost. What this host has got of\n# {}\n\
         [Container]\nImage={reference}\n",
        variables.image()
    );
    let pin = |unit: &str, concerns| Entry {
        path: layout.quadlets.join(format!("{unit}.container.d/10-image.conf")),
        what: What::File { content: content.clone(), mode: READABLE },
        concerns,
        is_secret: false,
    };
    let tracker = || pin("dispatcher-auth-tracker", Concerns::Tracker);
    let mut pins = vec![pin("dispatcher-api@", Concerns::Instances)];
    pins.extend(variables.has_tracker().then(tracker));
    pins
}

pub(super) fn with_directories(mut context: Context, layout: &Layout) -> Context {
    let mut insert = |name: &str, path: &Path| {
        context.insert(name.to_owned(), path.display().to_string().into());
    };
    insert("__dispatcher_settings_dir", &layout.settings);
    insert("__dispatcher_runtime_dir", &layout.runtime);
    context
}

impl Rendering<'_> {
    fn shared(&mut self) -> Result<(), RenderError> {
        let layout = self.layout;
        if self.variables.is("dispatcher_api_image_unit") {
            self.unit(templates::IMAGE, "dispatcher-api.image", Concerns::Systemd)?;
        }
        if self.variables.is("__dispatcher_own_network") {
            self.unit(templates::NETWORK, "dispatcher.network", Concerns::Systemd)?;
        }
        if self.variables.is("__dispatcher_store_volume") {
            self.volume("dispatcher-store")?;
        }
        self.native(templates::TARGET, "dispatcher-api.target", Concerns::Systemd)?;
        let path = layout.tmpfiles.join("dispatcher-api.conf");
        self.file(templates::TMPFILES, path, READABLE, Concerns::Tmpfiles)?;
        let path = layout.environment_file();
        self.file(templates::ENVIRONMENT, path, PRIVATE, Concerns::Instances)
    }

    fn instances(&mut self) -> Result<(), RenderError> {
        self.unit(templates::INSTANCES, "dispatcher-api@.container", Concerns::Instances)?;
        let tcp = self.variables.text("__dispatcher_upstream") == "tcp";
        let has_own = tcp || self.variables.number("dispatcher_api_metrics_port") > 0;
        for instance in 0..self.variables.scale() {
            let name = format!("dispatcher-api@{instance}.container");
            self.link(self.layout.quadlets.join(&name), "dispatcher-api@.container");
            if has_own {
                self.context.insert("__dispatcher_instance".to_owned(), instance.into());
                let path = self.layout.quadlets.join(format!("{name}.d/20-instance.conf"));
                self.file(templates::INSTANCE, path, READABLE, Concerns::Instances)?;
            }
        }
        Ok(())
    }

    fn tracker(&mut self) -> Result<(), RenderError> {
        if !self.variables.has_tracker() {
            return Ok(());
        }
        self.unit(templates::TRACKER, "dispatcher-auth-tracker.container", Concerns::Tracker)
    }

    fn services(&mut self) -> Result<(), RenderError> {
        for unit in self.variables.services() {
            let template = match unit {
                "dispatcher-postgresql" => templates::POSTGRESQL,
                "dispatcher-redis" => templates::REDIS,
                _ => templates::RABBITMQ,
            };
            self.unit(template, &format!("{unit}.container"), Concerns::Service)?;
            self.volume(unit)?;
        }
        Ok(())
    }

    fn worker(&mut self) -> Result<(), RenderError> {
        if !self.variables.has_worker() {
            return Ok(());
        }
        self.native(templates::WORKER, "dispatcher-worker.service", Concerns::Worker)?;
        let path = self.layout.settings.join("dispatcher-worker.env");
        self.file(templates::WORKER_ENVIRONMENT, path, PRIVATE, Concerns::Worker)
    }

    /// The backend, and the rest where HAProxy is ours; nothing where it is on another host. A user's
    /// own deployment has no HAProxy: its backend is for one who has, and who sees to it that it is
    /// read.
    fn haproxy(&mut self) -> Result<(), RenderError> {
        let of_host = PathBuf::from(self.variables.text("haproxy_config_dir"));
        let is_user = self.layout.is_user;
        if !is_user && !self.variables.has_haproxy() {
            return Ok(());
        }
        let directory = if is_user { self.layout.settings.join("haproxy") } else { of_host };
        let backend = directory.join("10_backend_dispatcher_api.cfg");
        let concerns = if is_user { Concerns::Nobody } else { Concerns::Haproxy };
        self.file(templates::HAPROXY_BACKEND, backend, READABLE, concerns)?;
        if is_user || !self.variables.is("dispatcher_haproxy_base") {
            return Ok(());
        }
        let base = PathBuf::from(self.variables.text("__dispatcher_haproxy_base_file"));
        self.file(templates::HAPROXY_BASE, base, READABLE, Concerns::Haproxy)?;
        let unit = self.layout.units.join("haproxy.service.d/10-dispatcher.conf");
        self.file(templates::HAPROXY_UNIT, unit, READABLE, Concerns::HaproxyUnit)
    }

    /// A unit of Quadlet.
    fn unit(
        &mut self,
        template: Template,
        name: &str,
        concerns: Concerns,
    ) -> Result<(), RenderError> {
        self.file(template, self.layout.quadlets.join(name), READABLE, concerns)
    }

    fn volume(&mut self, name: &str) -> Result<(), RenderError> {
        self.context.insert("__dispatcher_volume".to_owned(), Value::from(name));
        self.unit(templates::VOLUME, &format!("{name}.volume"), Concerns::Systemd)
    }

    /// A unit of systemd's own, and the link that enables it.
    fn native(
        &mut self,
        template: Template,
        name: &str,
        concerns: Concerns,
    ) -> Result<(), RenderError> {
        self.file(template, self.layout.units.join(name), READABLE, concerns)?;
        let target = if self.layout.is_user { "default.target" } else { "multi-user.target" };
        let path = self.layout.units.join(format!("{target}.wants")).join(name);
        self.link(path, &format!("../{name}"));
        Ok(())
    }

    fn link(&mut self, path: PathBuf, target: &str) {
        let what = What::Link { target: target.into() };
        self.entries.push(Entry { path, what, concerns: Concerns::Systemd, is_secret: false });
    }

    fn file(
        &mut self,
        (name, source): Template,
        path: PathBuf,
        mode: u32,
        concerns: Concerns,
    ) -> Result<(), RenderError> {
        let content = jinja::render(name, source, &self.context)
            .map_err(|error| RenderError { name: name.to_owned(), reason: format!("{error:#}") })?;
        let what = What::File { content, mode };
        self.entries.push(Entry { path, what, concerns, is_secret: mode == PRIVATE });
        Ok(())
    }
}
