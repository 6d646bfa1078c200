//! A host in memory, steps cut short anywhere, and what must hold all the while.

use proptest::prelude::*;

use super::*;

const TRACKER: &str = "dispatcher-auth-tracker.service";
const SERVICE: &str = "dispatcher-redis.service";

/// A request to the toolkit: how many instances, from which inputs, with which other units.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wish {
    scale: u16,
    inputs: u8,
    has_service: bool,
    has_tracker: bool,
}

fn wishes() -> impl Strategy<Value = Wish> {
    (prop_oneof![3 => 0_u16..3, 1 => 0_u16..9], 0_u8..2, any::<bool>(), any::<bool>()).prop_map(
        |(scale, inputs, has_service, has_tracker)| Wish {
            scale,
            inputs,
            has_service,
            has_tracker,
        },
    )
}

impl Wish {
    fn inputs(&self) -> Inputs {
        format!("inputs {}", self.inputs)
    }

    fn asked(&self) -> Asked {
        let unit = |name: &str| (name.to_owned(), self.inputs());
        Asked {
            units: format!("{self:?}"),
            balancer: Some(format!("{}", self.scale)),
            services: self.has_service.then(|| unit(SERVICE)).into_iter().collect(),
            instances: vec![self.inputs(); usize::from(self.scale)],
            tracker: self.has_tracker.then(|| unit(TRACKER)),
        }
    }
}

/// The host: what is on the disk, what systemd and HAProxy have read of it, what runs, and what
/// quadletgen has written down.
#[derive(Clone, Debug, Default)]
struct World {
    /// The wish whose units are on the disk, and links of instances as far as they were made.
    written: Option<Wish>,
    links: BTreeSet<u16>,
    /// What systemd has read.
    loaded: Option<Wish>,
    loaded_links: BTreeSet<u16>,
    noted_units: Option<String>,
    /// HAProxy's file, what HAProxy has read of it, and what was noted.
    balancer: Option<u16>,
    served: u16,
    noted_balancer: Option<String>,
    up: BTreeMap<u16, Inputs>,
    units: BTreeMap<String, Inputs>,
    /// The fewest instances that were served and up at once since the wish was made.
    fewest: usize,
}

/// The parts of a step that are done before the kill.
type Parts<'a> = &'a mut dyn FnMut() -> Option<usize>;

impl World {
    fn found(&self, wish: &Wish) -> Found {
        let running = |inputs: &Inputs| Running { is_up: true, inputs: Some(inputs.clone()) };
        Found {
            has_files_to_write: self.written.as_ref() != Some(wish)
                || !(0..wish.scale).all(|index| self.links.contains(&index)),
            has_files_to_remove: self.links.iter().any(|index| *index >= wish.scale),
            units: self.noted_units.clone(),
            balancer: self.noted_balancer.clone(),
            is_balancer_written: self.balancer == Some(wish.scale),
            units_running: self
                .units
                .iter()
                .map(|(unit, inputs)| (unit.clone(), running(inputs)))
                .collect(),
            instances: self.up.iter().map(|(index, inputs)| (*index, running(inputs))).collect(),
        }
    }

    fn working(&self) -> usize {
        self.up.keys().filter(|index| **index < self.served).count()
    }

    fn note(&mut self) {
        self.fewest = self.fewest.min(self.working());
    }

    fn begin(&mut self, index: u16) {
        let loaded = self.loaded.as_ref().expect("units are read before an instance is started");
        assert!(
            self.loaded_links.contains(&index),
            "instance {index} is started and systemd does not know it"
        );
        self.up.insert(index, loaded.inputs());
    }

    /// Carries a step out; `cut` says after how many of its parts it is killed, if it is.
    fn carry_out(&mut self, wish: &Wish, step: &Step, cut: Option<usize>) {
        let mut parts = 0..cut.unwrap_or(usize::MAX);
        let parts = &mut || parts.next();
        // Where it is cut does not matter to whoever called: the run ends there.
        let _cut = match step {
            Step::Write => self.write(wish, parts),
            Step::Reload => self.reload(wish, parts),
            Step::Unit(unit) => self.unit(unit, parts),
            Step::Start(indices) => indices.iter().try_for_each(|index| {
                parts()?;
                self.begin(*index);
                Some(())
            }),
            Step::Balance => self.balance(wish, parts),
            Step::Stop(indices) => indices.iter().try_for_each(|index| {
                parts()?;
                assert!(
                    *index >= self.served,
                    "instance {index} is stopped while HAProxy sends to it"
                );
                self.up.remove(index);
                Some(())
            }),
            Step::Renew(index) => self.renew(*index, parts),
            Step::End(unit) => parts().map(|_| drop(self.units.remove(unit))),
            Step::Remove => parts().map(|_| self.remove(wish)),
        };
        self.note();
    }

    fn write(&mut self, wish: &Wish, parts: Parts<'_>) -> Option<()> {
        // What was noted of the last reading is taken back before there is something to read.
        parts()?;
        self.noted_units = None;
        for index in 0..wish.scale {
            parts()?;
            self.links.insert(index);
        }
        parts()?;
        self.written = Some(wish.clone());
        Some(())
    }

    fn reload(&mut self, wish: &Wish, parts: Parts<'_>) -> Option<()> {
        parts()?;
        self.loaded.clone_from(&self.written);
        self.loaded_links.clone_from(&self.links);
        parts()?;
        self.noted_units = Some(wish.asked().units);
        Some(())
    }

    fn unit(&mut self, unit: &str, parts: Parts<'_>) -> Option<()> {
        parts()?;
        let inputs =
            self.loaded.as_ref().expect("units are read before a unit is started").inputs();
        self.units.insert(unit.to_owned(), inputs);
        Some(())
    }

    fn balance(&mut self, wish: &Wish, parts: Parts<'_>) -> Option<()> {
        parts()?;
        self.noted_balancer = None;
        parts()?;
        self.balancer = Some(wish.scale);
        parts()?;
        let all_up = (0..wish.scale).all(|index| self.up.contains_key(&index));
        assert!(all_up, "HAProxy is told of an instance that is down");
        self.served = wish.scale;
        parts()?;
        self.noted_balancer = wish.asked().balancer;
        Some(())
    }

    fn renew(&mut self, index: u16, parts: Parts<'_>) -> Option<()> {
        parts()?;
        self.up.remove(&index);
        self.note();
        parts()?;
        self.begin(index);
        Some(())
    }

    fn remove(&mut self, wish: &Wish) {
        assert!(
            self.up.keys().all(|index| *index < wish.scale),
            "the file of a running instance is removed"
        );
        self.links.retain(|index| *index < wish.scale);
        self.loaded_links.clone_from(&self.links);
    }

    /// One run: planned from what is found, killed after so many steps and parts, or not at all.
    fn run(&mut self, wish: &Wish, kill: Option<(usize, usize)>) {
        let steps = plan(&wish.asked(), &self.found(wish));
        for (number, step) in steps.iter().enumerate() {
            match kill {
                Some((at, parts)) if at == number => {
                    return self.carry_out(wish, step, Some(parts));
                }
                _ => self.carry_out(wish, step, None),
            }
        }
    }

    fn assert_is(&self, wish: &Wish) {
        assert_eq!(
            self.up.keys().copied().collect::<Vec<_>>(),
            (0..wish.scale).collect::<Vec<_>>()
        );
        assert!(self.up.values().all(|inputs| *inputs == wish.inputs()), "{self:?}");
        assert_eq!(self.served, wish.scale);
        assert_eq!(self.units.contains_key(SERVICE), wish.has_service);
        assert_eq!(self.units.contains_key(TRACKER), wish.has_tracker);
        assert!(self.units.values().all(|inputs| *inputs == wish.inputs()));
        assert_eq!(self.links, (0..wish.scale).collect());
        assert_eq!(
            plan(&wish.asked(), &self.found(wish)),
            Vec::new(),
            "there is nothing left to do"
        );
    }
}

fn kills() -> impl Strategy<Value = Option<(usize, usize)>> {
    prop_oneof![1 => Just(None), 6 => (0_usize..9, 0_usize..4).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_kills_converge(
        wishes in [wishes(), wishes()],
        runs in prop::collection::vec((0_usize..2, kills()), 0..8),
        last in 0_usize..2,
    ) {
        let mut world = World::default();
        for (wish, kill) in &runs {
            world.run(&wishes[*wish], *kill);
        }
        world.run(&wishes[last], None);
        world.assert_is(&wishes[last]);
    }

    #[test]
    fn the_same_command_after_kills_ends_as_asked(first in wishes(), wish in wishes(), deaths in prop::collection::vec(kills(), 0..10)) {
        let mut world = World::default();
        world.run(&first, None);
        for kill in deaths {
            world.run(&wish, kill);
        }
        world.run(&wish, None);
        world.assert_is(&wish);
    }

    #[test]
    fn capacity_never_falls_by_more_than_one(first in wishes(), wish in wishes()) {
        let mut world = World::default();
        world.run(&first, None);
        world.fewest = world.working();
        world.run(&wish, None);
        let least = usize::from(first.scale.min(wish.scale)).saturating_sub(1);
        prop_assert!(world.fewest >= least, "{} of {least}", world.fewest);
    }

    #[test]
    fn nor_does_it_when_instances_have_died(wish in wishes(), dead in prop::collection::btree_set(0_u16..9, 0..9)) {
        let mut world = World::default();
        world.run(&wish, None);
        world.up.retain(|index, _| !dead.contains(index));
        world.run(&wish, None);
        world.assert_is(&wish);
    }
}

#[test]
fn nothing_is_done_twice() {
    let wish = Wish { scale: 4, inputs: 0, has_service: true, has_tracker: true };
    let mut world = World::default();
    world.run(&wish, None);
    world.assert_is(&wish);
}

#[test]
fn of_a_bare_host_the_first_instance_goes_ahead() {
    let wish = Wish { scale: 4, inputs: 0, has_service: true, has_tracker: true };
    assert_eq!(
        plan(&wish.asked(), &World::default().found(&wish)),
        [
            Step::Write,
            Step::Reload,
            Step::Unit(SERVICE.into()),
            Step::Start([0].into()),
            Step::Start([1, 2, 3].into()),
            Step::Balance,
            Step::Unit(TRACKER.into()),
        ]
    );
}

#[test]
fn what_still_drains_is_waited_for_or_begun_anew() {
    let wish = |scale| Wish { scale, inputs: 0, has_service: false, has_tracker: false };
    let mut world = World::default();
    world.run(&wish(3), None);
    let drains = |wanted: u16, index: u16| {
        let mut world = world.clone();
        world.run(&wish(wanted), None);
        let mut found = world.found(&wish(wanted));
        let inputs = Some(wish(wanted).inputs());
        found.instances.insert(index, Running { is_up: false, inputs });
        plan(&wish(wanted).asked(), &found)
    };
    assert_eq!(drains(2, 2), [Step::Stop([2].into())]);
    assert_eq!(drains(3, 2), [Step::Start([2].into())]);
}
