//! The templates inside this program, by their names below `templates/`.

/// A template: its name, its text.
pub type Template = (&'static str, &'static str);

macro_rules! templates {
    ($($constant:ident = $name:literal;)*) => {
        $(pub(super) const $constant: Template =
            ($name, include_str!(concat!("../../../templates/", $name)));)*
        /// All of them.
        pub const ALL: &[Template] = &[$($constant),*];
    };
}

templates! {
    INSTANCES = "dispatcher-api@.container.j2";
    INSTANCE = "dispatcher-api-instance.conf.j2";
    TRACKER = "dispatcher-auth-tracker.container.j2";
    IMAGE = "dispatcher-api.image.j2";
    NETWORK = "dispatcher.network.j2";
    VOLUME = "dispatcher.volume.j2";
    TARGET = "dispatcher-api.target.j2";
    TMPFILES = "dispatcher-api.tmpfiles.j2";
    ENVIRONMENT = "dispatcher-api.env.j2";
    WORKER = "dispatcher-worker.service.j2";
    WORKER_ENVIRONMENT = "dispatcher-worker.env.j2";
    POSTGRESQL = "bundled/dispatcher-postgresql.container.j2";
    REDIS = "bundled/dispatcher-redis.container.j2";
    HAPROXY_BASE = "haproxy/haproxy.cfg.j2";
    HAPROXY_BACKEND = "haproxy/10_backend_dispatcher_api.cfg.j2";
    HAPROXY_UNIT = "haproxy/haproxy.service.conf.j2";
    RABBITMQ = "bundled/dispatcher-rabbitmq.container.j2";
}
