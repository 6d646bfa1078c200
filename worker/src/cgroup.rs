//! A cgroup (version 2) of its own for each run, where this process may make one: then nothing the
//! run starts can get out of sight, whatever it does to its session, parents or environment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// The cgroup of one run.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Where a run's cgroup would be; nothing is created.
    pub(crate) fn planned(run_id: Uuid) -> Option<Self> {
        let path = own_folder()?.join(format!("{PREFIX}{run_id}"));
        Some(Self { path })
    }

    /// The one at this path, as a journal says.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Creates it; false where that is not allowed.
    pub(crate) fn create(&self) -> bool {
        match fs::create_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
        }
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file a process joins it through.
    pub(crate) fn procs_file(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// The processes in it; none where it does not exist.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.procs_file()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills everything in it and below; older kernels cannot, the caller's signals remain.
    pub(crate) fn kill(&self) {
        if self.path.exists()
            && let Err(error) = fs::write(self.path.join("cgroup.kill"), "1")
        {
            tracing::debug!(path = %self.path.display(), %error, "cgroup.kill is not to be had");
        }
    }

    /// Removes it, if it is empty. Where a playbook left processes on purpose it stays with them,
    /// until [`sweep`].
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the run's cgroup stays");
        }
    }
}

/// Removes the empty cgroups of earlier runs.
pub(crate) fn sweep() {
    let Some(parent) = own_folder() else { return };
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) {
            Cgroup { path }.remove();
        }
    }
}

/// How the names of our cgroups begin.
const PREFIX: &str = "dispatcher-run-";

fn own_folder() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own_path(&mounts, &own)
}

/// Where this process's own cgroup is mounted.
fn own_path(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let group = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let inside = Path::new(group).strip_prefix(root).ok()?;
    Some(Path::new(point).join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_below_its_mount() {
        let mounts = "31 24 0:27 / /sys rw - sysfs sysfs rw\n\
                      41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let own = "9:name=systemd:/x\n0::/system.slice/dispatcher-worker.service\n";
        let expected = "/sys/fs/cgroup/system.slice/dispatcher-worker.service";
        assert_eq!(own_path(mounts, own), Some(PathBuf::from(expected)));
        assert_eq!(own_path("31 24 0:27 / /sys rw - sysfs sysfs rw", own), None);
        assert_eq!(own_path(mounts, "1:name=systemd:/x\n"), None);
    }
}
