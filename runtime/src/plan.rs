//! From a checked bundle to the list of steps that make its container.

mod build;
mod devices;
mod enter_last;
mod from_outside;
pub mod mount_options;
mod mounts;
mod net_devices;
mod number_list;
mod process;
mod resctrl;
mod scheduling;
mod step;
pub mod trial;

use std::fmt;

pub use build::CreateRequest;
pub(crate) use build::keyring_name;
pub(crate) use mounts::clean;
pub use process::{Announce, ProcessRequest, bounding_set};
pub(crate) use resctrl::resctrl_group;
pub use step::{
    CapabilityBits, Carrier, DeviceNode, HookKind, IdMap, IdRange, LabelModule, MountSource,
    NamespaceKind, Nature, ResctrlGroup, Step,
};

/// A step and who carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Who.
    pub carrier: Carrier,
    /// What.
    pub step: Step,
}

/// All steps in their order: those of one carrier follow each other as they stand here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitPlan {
    steps: Vec<PlannedStep>,
}

impl InitPlan {
    fn push(&mut self, carrier: Carrier, step: Step) {
        self.steps.push(PlannedStep { carrier, step });
    }

    /// All steps.
    pub fn steps(&self) -> &[PlannedStep] {
        &self.steps
    }

    /// The steps of one carrier, in order.
    pub fn of(&self, carrier: Carrier) -> impl Iterator<Item = &Step> {
        self.steps
            .iter()
            .filter(move |planned| planned.carrier == carrier)
            .map(|planned| &planned.step)
    }

    /// The first descriptor that does not pass to the program.
    pub(crate) fn first_closed(&self) -> Option<u32> {
        self.steps.iter().find_map(|planned| match planned.step {
            Step::CloseDescriptors { first } => Some(first),
            _ => None,
        })
    }
}

impl fmt::Display for InitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for planned in &self.steps {
            let carrier = match planned.carrier {
                Carrier::Parent => "parent",
                Carrier::Intermediate => "intermediate",
                Carrier::Init => "init",
            };
            let nature = match planned.step.nature() {
                Nature::Plain => "",
                Nature::Conditional => "if there",
                Nature::LateBound => "late",
                Nature::Rendezvous => "meets",
            };
            writeln!(f, "{carrier:<12} {nature:<8} {}", planned.step)?;
        }
        Ok(())
    }
}
