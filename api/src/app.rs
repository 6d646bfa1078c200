//! The wired service: everything that handlers and loops share. Adapters are chosen here and in the
//! binary, nowhere else.

use std::sync::Arc;

use auth_tracker::last_auth::LastAuthCollector;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{
        access::RunAccess, attempts::Attempts, current::Current, feeding,
        known_workers::KnownWorkers, lookups::Lookups, principal::Role, psk::own_keys, sources,
        sso::rules::SsoRules,
    },
    bus::{Wakeups, remote::Remote},
    config::{
        Settings,
        auth::{RoleMap, SsoRole, SsoSettings},
        connector::{ConnectorImpl, ConnectorSettings},
        outside::Choice,
        secrets::ServiceKey,
        tenants::TenantsImpl,
        wakeups::WakeupsBy,
    },
    connector::{
        Connector,
        cloud_connector::{self, CloudConnector},
        limited::Limited,
        limiter::{Limiter, Rate, SharedBucket},
        mock::MockConnector,
    },
    execution::{self, Execution},
    http::{lifecycle::Lifecycle, openapi::Documents, request_id::RequestIds},
    instances::heartbeat::Heartbeat,
    keyring::Keyring,
    outside::{
        call::{Measured, Outside},
        inventory::{Inventory, InventoryClient, MockInventory},
        rbac::{MockRbac, Rbac, RbacClient},
        sources::{MockSources, Sources, SourcesClient},
        tenants::{DynamicMock, FixedMock, Tenants, Translator},
    },
    storage::Objects,
    store::Stores,
};

/// What every part of one process shares, behind one pointer: every request holds a dozen of them
/// while it is answered.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What an [`App`] leads to.
pub struct Shared {
    /// The database.
    pub stores: Stores,
    /// The object store.
    pub objects: Objects,
    /// Wake-ups within the process, and from it.
    pub wakeups: Wakeups,
    /// The shared secrets.
    pub keyring: Arc<Keyring>,
    /// What workers may do.
    pub execution: Arc<Execution>,
    /// The way to foreign hosts; `None` when off.
    pub connector: Option<Arc<dyn Connector>>,
    /// Who knows the organisations of accounts; `None` when off.
    pub tenants: Option<Arc<dyn Tenants>>,
    /// Every setting.
    pub settings: Arc<Settings>,
    /// Who may call.
    pub auth: Arc<Current>,
    /// Who knows how hosts are connected; `None` when off.
    pub inventory: Option<Arc<dyn Inventory>>,
    /// Who knows how Satellites are connected; `None` when off.
    pub sources: Option<Arc<dyn Sources>>,
    /// Which runs somebody may look at.
    pub run_access: RunAccess,
    /// When callers were last recognised, until that is handed on.
    pub last_auth: Arc<LastAuthCollector>,
    /// Who failed to be let in.
    pub attempts: Arc<Attempts>,
    /// Workers that called a moment ago.
    pub known_workers: Arc<KnownWorkers>,
    /// What this process tells the others of the service.
    pub heartbeat: Heartbeat,
    /// Room for streams of events.
    pub event_streams: Arc<Semaphore>,
    /// Asks for those that did not.
    pub worker_lookups: Lookups,
    /// What clients are generated from.
    pub documents: Documents,
    /// Where the process is in its life.
    pub lifecycle: Arc<Lifecycle>,
    /// Ids of requests.
    pub request_ids: Arc<RequestIds>,
    /// Cancelled when streams and loops are to end.
    pub shutdown: CancellationToken,
}

/// What an [`App`] is made of; everything else follows from it.
pub struct Parts {
    /// Every setting.
    pub settings: Settings,
    /// The database.
    pub stores: Stores,
    /// The object store.
    pub objects: Objects,
    /// The shared secrets, unparsed.
    pub secret_keys: SecretString,
    /// Keys beside those of the settings, of admins.
    pub more_services: Vec<ServiceKey>,
    /// Another way to foreign hosts than the settings name.
    pub connector: Option<Arc<dyn Connector>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl App {
    /// Wires the parts together.
    ///
    /// # Errors
    /// When the secret keys or the certificates that settings name cannot be used, or two services
    /// have the same key.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { settings, stores, objects, secret_keys, more_services, connector } = parts;
        let keyring = Arc::new(Keyring::parse(secret_keys.expose_secret())?);
        let auth = auth(&settings, &more_services, &keyring, &stores)?;
        let mut outside = Outside::new(&settings.tls, &settings.requests, settings.outside);
        let connector = match connector {
            Some(other) => Some(other),
            None => way_to_foreign_hosts(&settings, &mut outside, &keyring)?,
        };
        let tenants = tenants(&settings, &mut outside)?;
        let attempts = Arc::new(Attempts::new(settings.http.auth_failures));
        let wakeups = Wakeups::default();
        let shutdown = CancellationToken::new();
        let execution = Execution::new(execution::Parts {
            work: Arc::clone(&stores.work),
            recipients: Arc::clone(&stores.recipients),
            wakeups: wakeups.clone(),
            keyring: Arc::clone(&keyring),
            public_url: settings.dispatch.public_url.clone(),
            settings: settings.execution,
            shutdown: shutdown.clone(),
        });
        let process = settings.process;
        let lifecycle = Lifecycle::of_requests(process.max_requests, process.max_requests_jitter);
        let event_streams = Arc::new(Semaphore::new(settings.events.streams));
        let worker_lookups = Lookups::new(Arc::clone(&stores.recipients));
        let inventory = inventory(&settings, &mut outside)?;
        let sources = sources(&settings, &mut outside)?;
        let run_access = RunAccess::new(rbac(&settings, &mut outside)?, &settings.rbac);
        let documents = Documents::new(&settings.dispatch.public_url, settings.http.indented_json)?;
        Ok(Self(Arc::new(Shared {
            stores,
            objects,
            wakeups,
            keyring,
            execution,
            connector,
            tenants,
            settings: Arc::new(settings),
            auth: Arc::new(auth),
            inventory,
            sources,
            run_access,
            last_auth: Arc::default(),
            attempts,
            known_workers: Arc::default(),
            heartbeat: Heartbeat::default(),
            event_streams,
            worker_lookups,
            documents,
            lifecycle: Arc::new(lifecycle),
            request_ids: Arc::default(),
            shutdown,
        })))
    }

    /// The way to other instances over the database, where there may be any and they are to be
    /// woken. For one loop of the process.
    #[must_use]
    pub fn remote(&self) -> Option<Remote> {
        let store = self.stores.wakeups.clone()?;
        let wanted = self.settings.wakeups.by == WakeupsBy::Postgres;
        wanted.then(|| Remote::join(&self.wakeups, store))
    }
}

fn auth(
    settings: &Settings,
    more: &[ServiceKey],
    keyring: &Arc<Keyring>,
    stores: &Stores,
) -> anyhow::Result<Current> {
    let entry = |key: &'_ ServiceKey, role| {
        (key.service.clone(), key.key.expose_secret().to_owned(), key.org_id.clone(), role)
    };
    let named = settings.secrets.services.iter().map(|key| entry(key, Role::Operator));
    let all: Vec<_> = named.chain(more.iter().map(|key| entry(key, Role::Admin))).collect();
    let borrowed =
        all.iter().map(|(name, key, org, role)| (name.as_str(), key.as_str(), org.clone(), *role));
    let own = own_keys(borrowed, keyring)?;
    let feed = feeding::feed(settings, own.clone(), keyring, stores)?;
    let rules = settings.auth.sso.as_ref().map(SsoRules::from);
    Ok(Current::new(Arc::new(feed), Arc::clone(keyring), own, rules))
}

fn rbac(settings: &Settings, outside: &mut Outside) -> anyhow::Result<Option<Arc<dyn Rbac>>> {
    Ok(match settings.rbac.choice {
        Choice::Off => None,
        Choice::Mock => Some(Arc::new(MockRbac)),
        Choice::Real => {
            let service = outside.service(Measured::As("rbac"), &settings.rbac.address)?;
            Some(Arc::new(RbacClient(service)))
        }
    })
}

fn inventory(
    settings: &Settings,
    outside: &mut Outside,
) -> anyhow::Result<Option<Arc<dyn Inventory>>> {
    let settings = &settings.inventory;
    Ok(match settings.choice {
        Choice::Off => None,
        Choice::Mock => Some(Arc::new(MockInventory)),
        Choice::Real => {
            let service = outside.service(Measured::As("inventory"), &settings.address)?;
            Some(Arc::new(InventoryClient { service, order: settings.order.clone() }))
        }
    })
}

fn sources(settings: &Settings, outside: &mut Outside) -> anyhow::Result<Option<Arc<dyn Sources>>> {
    Ok(match settings.sources.choice {
        Choice::Off => None,
        Choice::Mock => Some(Arc::new(MockSources)),
        Choice::Real => {
            let address = &settings.sources.address;
            Some(Arc::new(SourcesClient(outside.service(Measured::As("sources"), address)?)))
        }
    })
}

fn way_to_foreign_hosts(
    settings: &Settings,
    outside: &mut Outside,
    keyring: &Arc<Keyring>,
) -> anyhow::Result<Option<Arc<dyn Connector>>> {
    let ConnectorSettings { implementation, address, client_id, psk, .. } = &settings.connector;
    Ok(match implementation {
        ConnectorImpl::Off => None,
        ConnectorImpl::Mock => Some(Arc::new(Limited::new(MockConnector, limiter(settings)?))),
        ConnectorImpl::Http => {
            let connector = CloudConnector::new(cloud_connector::Parts {
                service: outside.service(Measured::As(cloud_connector::COMPONENT), address)?,
                client_id: client_id.clone(),
                psk: psk.clone(),
                keyring: Arc::clone(keyring),
                return_url: settings.uploads.return_url.clone(),
                interval: settings.dispatch.response_interval,
            })?;
            Some(Arc::new(Limited::new(connector, limiter(settings)?)))
        }
    })
}

fn tenants(settings: &Settings, outside: &mut Outside) -> anyhow::Result<Option<Arc<dyn Tenants>>> {
    Ok(match settings.tenants.implementation {
        TenantsImpl::Off => None,
        TenantsImpl::DynamicMock => Some(Arc::new(DynamicMock)),
        TenantsImpl::FixedMock => Some(Arc::new(FixedMock)),
        TenantsImpl::Http => {
            let service = outside.service(Measured::AsTranslator, &settings.tenants.address)?;
            Some(Arc::new(Translator::new(service)))
        }
    })
}

/// Of all instances together where they share a Redis.
fn limiter(settings: &Settings) -> anyhow::Result<Limiter> {
    let ConnectorSettings { per_second, burst, .. } = settings.connector;
    let redis = sources::redis(&settings.auth, &settings.tls)?;
    let shared = redis.map(|redis| Arc::new(redis) as Arc<dyn SharedBucket>);
    Ok(Limiter::new(Rate { per_second, burst }, shared))
}

impl From<&SsoSettings> for SsoRules {
    fn from(settings: &SsoSettings) -> Self {
        let role = |role| match role {
            SsoRole::Reader => Role::Reader,
            SsoRole::Operator => Role::Operator,
            SsoRole::Admin => Role::Admin,
        };
        let roles = settings.roles.as_ref();
        Self {
            audiences: settings.audiences.clone(),
            org_claims: settings.org_claims.clone(),
            roles: roles.map(|RoleMap(pairs)| {
                pairs.iter().map(|(name, ours)| (name.clone(), role(*ours))).collect()
            }),
            read_only_group: settings.read_only_group.clone(),
        }
    }
}
