//! Whether hosts can be reached, and through which recipients (contract §8): Inventory says how each
//! host is connected, Sources which client connects a Satellite, the connector whether it is there.

pub mod routes;

use std::collections::BTreeMap;

use dispatcher_wire::dispatch::{ConnectionStatus, HostsConnection, HostsWithOrg, RecipientType};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::HeaderValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    model::Recipient,
    systems::{BehindSatellite, Direct, Sorted, sort},
};
use crate::{
    connector::{Connector, SendError},
    outside::{inventory::Inventory, sources::Sources},
    store::{RecipientStore, StoreError},
};

/// How many recipients of one request are asked about at once.
const MAX_CONCURRENT_QUESTIONS: usize = 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Inventory did not say which hosts these are.
    #[error("Inventory does not know the hosts: {0}")]
    Inventory(String),
    /// The connector failed; one failed question fails them all.
    #[error("the status of recipient {0} is not known: {1}")]
    Connector(Uuid, String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whom to ask, and on whose behalf.
pub struct Inquiry<'a> {
    /// Knows hosts.
    pub inventory: &'a dyn Inventory,
    /// Knows Satellites.
    pub sources: &'a dyn Sources,
    /// The way to foreign hosts; `None`: nobody there is connected.
    pub connector: Option<&'a dyn Connector>,
    /// Workers of ours.
    pub recipients: &'a dyn RecipientStore,
    /// Who asks, as it came.
    pub identity: &'a HeaderValue,
    /// The organisation of who asks: of another one, workers of ours are not told about.
    pub own_org: &'a str,
    /// When.
    pub now: OffsetDateTime,
}

/// A recipient that hosts are reached through, still to be asked about.
enum Through {
    Satellite(BehindSatellite),
    Client(Direct),
}

impl Inquiry<'_> {
    /// Satellites in the order of their first host, then hosts with a client of their own, then all
    /// that cannot be reached together. Satellites that Sources does not know are left out.
    ///
    /// # Errors
    /// When Inventory, the connector or the database fails.
    pub async fn answer(
        &self,
        asked: HostsWithOrg,
    ) -> Result<Vec<ConnectionStatus>, ConnectionError> {
        let HostsWithOrg { org_id, hosts } = asked;
        let systems = self.inventory.systems(self.identity, &hosts).await;
        let sorted = sort(systems.map_err(ConnectionError::Inventory)?);
        let ours = self.workers(&org_id, &sorted).await?;
        let Sorted { satellites, direct, unreached } = sorted;
        let through = satellites.into_iter().map(Through::Satellite);
        let through = through.chain(direct.into_iter().map(Through::Client));
        let questions: Vec<_> =
            through.map(|through| self.settle(&org_id, &ours, through)).collect();
        let settled: Vec<Option<ConnectionStatus>> =
            stream::iter(questions).buffered(MAX_CONCURRENT_QUESTIONS).try_collect().await?;
        let none = (!unreached.is_empty()).then(|| ConnectionStatus {
            org_id,
            recipient: Uuid::nil(),
            recipient_type: RecipientType::None,
            sat_id: String::new(),
            sat_org_id: String::new(),
            status: HostsConnection::RhcNotConfigured,
            systems: unreached,
        });
        Ok(settled.into_iter().flatten().chain(none).collect())
    }

    /// Workers of ours among the clients.
    async fn workers(
        &self,
        org_id: &str,
        sorted: &Sorted,
    ) -> Result<BTreeMap<Uuid, Recipient>, ConnectionError> {
        let id = |direct: &Direct| Uuid::parse_str(&direct.rhc_client_id).ok();
        let ids: Vec<Uuid> = sorted.direct.iter().filter_map(id).collect();
        if ids.is_empty() || self.own_org != org_id {
            return Ok(BTreeMap::new());
        }
        let found = self.recipients.find(&ids).await?;
        Ok(found.into_iter().filter(|(_, recipient)| recipient.org_id == org_id).collect())
    }

    async fn settle(
        &self,
        org_id: &str,
        ours: &BTreeMap<Uuid, Recipient>,
        through: Through,
    ) -> Result<Option<ConnectionStatus>, ConnectionError> {
        let status = |recipient: Option<Uuid>, is_there: bool| ConnectionStatus {
            org_id: org_id.to_owned(),
            recipient: recipient.unwrap_or_default(),
            recipient_type: RecipientType::DirectConnect,
            sat_id: String::new(),
            sat_org_id: String::new(),
            status: if is_there {
                HostsConnection::Connected
            } else {
                HostsConnection::Disconnected
            },
            systems: Vec::new(),
        };
        match through {
            Through::Satellite(BehindSatellite { instance_id, org_id: sat_org_id, systems }) => {
                let rhc_id = match self.sources.rhc_id(self.identity, &instance_id).await {
                    Ok(rhc_id) => rhc_id,
                    Err(error) => {
                        tracing::warn!(
                            satellite = instance_id,
                            error,
                            "a Satellite is left out, since Sources does not say what connects it"
                        );
                        return Ok(None);
                    }
                };
                let recipient = Uuid::parse_str(&rhc_id).ok();
                // Of the organisation that asks: Cloud Connector does not know those inside
                // of Satellites.
                let is_there = self.is_connected(org_id, recipient).await?;
                Ok(Some(ConnectionStatus {
                    recipient_type: RecipientType::Satellite,
                    sat_id: instance_id,
                    sat_org_id,
                    systems,
                    ..status(recipient, is_there)
                }))
            }
            Through::Client(Direct { rhc_client_id, system }) => {
                let recipient = Uuid::parse_str(&rhc_client_id).ok();
                let own = recipient.and_then(|recipient| ours.get(&recipient));
                let is_there = match own {
                    Some(own) => own.is_present(self.now),
                    None => self.is_connected(org_id, recipient).await?,
                };
                let systems = vec![system];
                Ok(Some(ConnectionStatus { systems, ..status(recipient, is_there) }))
            }
        }
    }

    /// Whether somebody is there whom the connector reaches. An id that is none is nobody's.
    async fn is_connected(
        &self,
        org_id: &str,
        recipient: Option<Uuid>,
    ) -> Result<bool, ConnectionError> {
        let (Some(recipient), Some(connector)) = (recipient, self.connector) else {
            return Ok(false);
        };
        match connector.is_connected_at_once(org_id, recipient).await {
            Ok(connected) => Ok(connected),
            Err(SendError::NotConnected) => Ok(false),
            Err(SendError::Refused(reason) | SendError::Ambiguous(reason)) => {
                Err(ConnectionError::Connector(recipient, reason))
            }
        }
    }
}
