//! Wrong input, and a host that is not as it should be: a clear error, and nothing half done.

use std::{future::Future, pin::Pin};

use anyhow::{Result, ensure};

use crate::deployed::Deployed;

/// One thing that goes wrong: what makes it so, the command, what it must say, what undoes it.
struct Wrong {
    make: &'static str,
    command: &'static str,
    said: &'static [&'static str],
    undo: &'static str,
}

const WRONG: &[Wrong] = &[
    Wrong { make: "true", command: "scale -1", said: &["-1"], undo: "true" },
    Wrong { make: "true", command: "scale x", said: &["x"], undo: "true" },
    Wrong {
        make: "echo 'dispatcher_api_colour: red' >>/etc/dispatcher-api/deploy.yml",
        command: "apply",
        said: &["dispatcher_api_colour"],
        undo: "sed -i /colour/d /etc/dispatcher-api/deploy.yml",
    },
    Wrong {
        make: "true",
        command: "roll --image localhost/nothing:9",
        said: &["localhost/nothing:9"],
        undo: "true",
    },
    Wrong {
        make: "printf '[Container]\\nImage=other\\n' >'/etc/containers/systemd/dispatcher-api@2.container'",
        command: "scale 3",
        said: &["dispatcher-api@2.container"],
        undo: "rm '/etc/containers/systemd/dispatcher-api@2.container'",
    },
    Wrong {
        make: "printf 'backend of-somebody\\n    colour red\\n' >/etc/haproxy/conf.d/90_other.cfg",
        command: "scale 3",
        said: &["90_other.cfg"],
        undo: "rm /etc/haproxy/conf.d/90_other.cfg",
    },
    Wrong {
        // As full as a disk can be: a file system of its own in place of the units' directory, with
        // no room for one more link.
        make: "mkdir /tmp/units && cp -a /etc/containers/systemd/. /tmp/units/ && \
               mount -t tmpfs -o size=400k,nr_inodes=64 tmpfs /etc/containers/systemd && \
               cp -a /tmp/units/. /etc/containers/systemd/ && \
               number=0 && while touch /etc/containers/systemd/full$number 2>/dev/null; do number=$((number + 1)); done",
        command: "scale 3",
        said: &["o space left"],
        undo: "umount /etc/containers/systemd; rm -r /tmp/units",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_and_nothing_is_half_done() -> Result<()> {
    let deployed = Deployed::applied("hwrong", "dispatcher_api_container_scale: 2\n").await?;
    let mut failed = Vec::new();
    for wrong in WRONG {
        deployed.host.run(wrong.make).await?;
        if let Err(error) = deployed.refused(wrong.command, wrong.said).await {
            failed.push(format!("{error:#}"));
        }
        deployed.host.run(wrong.undo).await?;
        // What was refused can be done, or was not wanted: an apply finds nothing to do or mends it.
        deployed.host.run("quadletgen apply").await?;
        deployed.ensure_scale(deployed.wanted().await?).await?;
    }
    for case in [another_one_runs, a_port_in_use] as [Case; 2] {
        if let Err(error) = case(&deployed).await {
            failed.push(format!("{error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

type Case = for<'a> fn(&'a Deployed) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// The lock names its holder.
fn another_one_runs(deployed: &Deployed) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
    Box::pin(async move {
        // A scale that goes on for as long as an instance takes to start and drain.
        let script = "systemd-run --quiet --unit=first-one quadletgen scale 5";
        deployed.host.run(script).await?;
        let both = deployed.quadletgen("scale 4").await?;
        let text = String::from_utf8_lossy(&both.stderr).into_owned();
        ensure!(!both.status.success(), "two at once");
        ensure!(text.contains("quadletgen"), "who holds the lock is not said: {text}");
        deployed.host.until("! systemctl is-active --quiet first-one.service").await?;
        deployed.ensure_scale(5).await
    })
}

/// HAProxy's port is somebody else's before the first apply.
fn a_port_in_use(deployed: &Deployed) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
    Box::pin(async move {
        let host = &deployed.host;
        host.run("systemctl stop haproxy; systemd-run --quiet --unit=squatter socat tcp-listen:80,fork -").await?;
        host.until("ss -tln | grep -q ':80 '").await?;
        let output = deployed.quadletgen("apply").await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let listening = host.run("ss -tlnp").await?;
        ensure!(!output.status.success(), "HAProxy has its port back: {listening}");
        ensure!(text.contains("80"), "{text}");
        host.run("systemctl stop squatter; quadletgen apply").await?;
        deployed.ensure_scale(5).await
    })
}
