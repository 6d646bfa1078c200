//! `logs`: the journal of an instance, of everything, or of another unit of the deployment.

use super::{
    desired::{INSTANCES, TRACKER, instance},
    failure::{Exit, Failure},
    worker,
};
use crate::{host::journal, layout::Layout};

/// Shows it.
///
/// # Errors
/// When there is no such part, or journalctl cannot be run.
pub async fn show(
    layout: &Layout,
    of: Option<&str>,
    lines: u32,
    is_following: bool,
) -> Result<(), Failure> {
    let units = units(of)?;
    if journal::show(layout.is_user, &units, lines, is_following).await? {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("journalctl failed for {}", units.join(", "))))
}

fn units(of: Option<&str>) -> Result<Vec<String>, Failure> {
    let tracker = format!("{TRACKER}.service");
    Ok(match of {
        None => vec![format!("{INSTANCES}*.service"), tracker],
        Some("tracker") => vec![tracker],
        Some("worker") => vec![worker::UNIT.to_owned()],
        Some("haproxy") => vec![super::balancer::UNIT.to_owned()],
        Some(name @ ("postgresql" | "redis" | "rabbitmq")) => {
            vec![format!("dispatcher-{name}.service")]
        }
        Some(number) => match number.parse() {
            Ok(index) => vec![instance(index)],
            Err(_) => {
                return Err(Failure::new(
                    Exit::Wrong,
                    format!(
                        "`{number}` has no logs here: the number of an instance, tracker, worker, haproxy, postgresql, \
                         redis or rabbitmq"
                    ),
                ));
            }
        },
    })
}
