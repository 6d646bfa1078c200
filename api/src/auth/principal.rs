//! Principals: kind, id, organisation and role (decision 10). Pure.

use uuid::Uuid;

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A service with a pre-shared key; its id is the run's `service`.
    Service,
    /// A person or account, by the identity header of a trusted gateway.
    Identity,
    /// A worker, by its own key; its id is its recipient.
    Worker,
    /// A person or account, by a token of the SSO server; its id is the token's subject.
    User,
}

impl Kind {
    /// Its name where it is stored or shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Identity => "identity",
            Self::Worker => "worker",
            Self::User => "user",
        }
    }
}

/// The `service` of runs that users dispatch.
const SSO_SERVICE: &str = "sso";

/// Which organisations a principal may act for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OrgScope {
    /// Every one; each request has to name one.
    All,
    /// Exactly this one.
    One(String),
}

/// What a principal may do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Look.
    Reader,
    /// Look, dispatch, cancel, store playbooks.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name where it is stored or shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Reader, Self::Operator, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// What kind it is.
    pub kind: Kind,
    /// Its name: service, user or recipient id.
    pub id: String,
    /// Which organisations it may act for.
    pub org: OrgScope,
    /// What it may do.
    pub role: Role,
}

impl Principal {
    /// Whether it may act for this organisation.
    #[must_use]
    pub fn may_act_for(&self, org_id: &str) -> bool {
        match &self.org {
            OrgScope::All => true,
            OrgScope::One(own) => own == org_id,
        }
    }

    /// The `service` of the runs it dispatches.
    #[must_use]
    pub fn service(&self) -> &str {
        if self.kind == Kind::User { SSO_SERVICE } else { &self.id }
    }
}

/// An authenticated worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkerPrincipal {
    /// Its recipient.
    pub recipient: Uuid,
    /// The recipient's organisation.
    pub org_id: String,
}
