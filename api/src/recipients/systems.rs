//! Hosts as Inventory knows them, and how each is reached (contract §8). Pure.

/// A host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct System {
    /// Its id, as Inventory writes it.
    pub id: String,
    /// The Satellite that manages it.
    pub satellite: Option<Satellite>,
    /// Its own rhc client.
    pub rhc_client_id: Option<String>,
}

/// A Satellite, as a host of it reports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Satellite {
    /// Its id.
    pub instance_id: String,
    /// The organisation inside it that the host belongs to.
    pub org_id: Option<String>,
}

/// Hosts behind one Satellite, of one organisation inside it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BehindSatellite {
    /// The Satellite.
    pub instance_id: String,
    /// The organisation inside it.
    pub org_id: String,
    /// The hosts.
    pub systems: Vec<String>,
}

/// A host with a client of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Direct {
    /// The client.
    pub rhc_client_id: String,
    /// The host.
    pub system: String,
}

/// Hosts by how they are reached, each kind in the order of the first host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sorted {
    /// Through a Satellite.
    pub satellites: Vec<BehindSatellite>,
    /// Directly.
    pub direct: Vec<Direct>,
    /// Not at all.
    pub unreached: Vec<String>,
}

/// Sorts hosts. One behind a Satellite of which nobody knows the organisation cannot be reached.
#[must_use]
pub fn sort(systems: Vec<System>) -> Sorted {
    let mut sorted = Sorted::default();
    for System { id, satellite, rhc_client_id } in systems {
        match (satellite, rhc_client_id) {
            (Some(Satellite { instance_id, org_id: Some(org_id) }), _) => {
                sorted.add(instance_id, org_id, id);
            }
            (None, Some(rhc_client_id)) => sorted.direct.push(Direct { rhc_client_id, system: id }),
            _ => sorted.unreached.push(id),
        }
    }
    sorted
}

impl Sorted {
    fn add(&mut self, instance_id: String, org_id: String, system: String) {
        let same = |known: &&mut BehindSatellite| {
            (&known.instance_id, &known.org_id) == (&instance_id, &org_id)
        };
        match self.satellites.iter_mut().find(same) {
            Some(known) => known.systems.push(system),
            None => {
                self.satellites.push(BehindSatellite { instance_id, org_id, systems: vec![system] })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(id: &str, satellite: Option<(&str, Option<&str>)>, client: Option<&str>) -> System {
        let satellite = satellite.map(|(instance_id, org_id)| Satellite {
            instance_id: instance_id.to_owned(),
            org_id: org_id.map(str::to_owned),
        });
        System { id: id.to_owned(), satellite, rhc_client_id: client.map(str::to_owned) }
    }

    fn behind(instance_id: &str, org_id: &str, systems: &[&str]) -> BehindSatellite {
        BehindSatellite {
            instance_id: instance_id.to_owned(),
            org_id: org_id.to_owned(),
            systems: systems.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn a_satellite_counts_before_a_client_and_groups_are_by_satellite_and_organisation() {
        let sorted = sort(vec![
            system("a", Some(("s1", Some("5"))), Some("c")),
            system("b", None, Some("c1")),
            system("c", Some(("s2", Some("5"))), None),
            system("d", Some(("s1", Some("5"))), None),
            system("e", Some(("s1", Some("6"))), None),
            system("f", None, None),
            system("g", Some(("s1", None)), Some("c2")),
            system("h", None, Some("c1")),
        ]);
        let satellites =
            [behind("s1", "5", &["a", "d"]), behind("s2", "5", &["c"]), behind("s1", "6", &["e"])];
        assert_eq!(sorted.satellites, satellites);
        let direct: Vec<_> = sorted.direct.iter().map(|one| one.system.as_str()).collect();
        assert_eq!(direct, ["b", "h"]);
        assert_eq!(sorted.unreached, ["f", "g"]);
        assert_eq!(sort(Vec::new()), Sorted::default());
    }
}
