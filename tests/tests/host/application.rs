//! An application that is not Dispatcher: any HTTP server in any image, deployed by the same tool. It
//! has no use for a database, so its hosts are up in seconds.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use reqwest::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    deployed::{self, Deployed},
    host::Host,
};

/// Serves until it is told to end, and for four more seconds with a health that fails.
const SERVE: &str = r#"
use strict;
use IO::Socket::INET;
my ($port) = @ARGV;
my ($version, $health) = map { open(my $file, '<', "/app/$_") or die; local $/; <$file> } ('version', 'health');
my $until;
$SIG{TERM} = sub { $until ||= time + 4 };
$SIG{ALRM} = sub { };
my $listening = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "port $port: $!";
print STDERR "I am $version";
until ($until && time > $until) {
    alarm 1;
    my $caller = $listening->accept or next;
    my ($request, $more) = ('', '');
    while ($request !~ /\r\n\r\n/ && sysread($caller, $more, 65536)) { $request .= $more }
    my ($head, $body) = split /\r\n\r\n/, $request, 2;
    my $length = $head =~ /^content-length: *(\d+)/im ? $1 : 0;
    while (length($body) < $length && sysread($caller, $more, 65536)) { $body .= $more }
    my $is_check = $head =~ m{^GET /health };
    my $status = !$is_check ? '200 OK' : $until ? '503 Ending' : $health;
    my $answer = $is_check ? '' : $version;
    my $size = $status =~ /^204/ ? '' : 'Content-Length: ' . length($answer) . "\r\n";
    syswrite $caller, "HTTP/1.1 $status\r\nConnection: close\r\n$size\r\n$answer";
    close $caller;
}
"#;

/// Asks for its health, from inside.
const CHECK: &str = r#"
use strict;
use IO::Socket::INET;
my $server = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ARGV[0]", Timeout => 2) or exit 1;
print $server "GET /health HTTP/1.1\r\nHost: check\r\n\r\n";
exit(<$server> =~ m{^HTTP/1.1 [23]} ? 0 : 1);
"#;

/// Three images of it: `one` answers 204 at its health, `two` 302, and `three` is never well.
const IMAGES: &str = r#"
image() {
    printf '%s\n' "$1" >/app/version
    printf '%s' "$2" >/app/health
    podman create --name app localhost/debian:test >/dev/null
    podman cp /app app:/
    podman commit --quiet app "localhost/app:$1" >/dev/null
    podman rm app >/dev/null
}
image one '204 No Content'
image two '302 Found'
image three '500 Broken'
"#;

/// What is asked of its hosts.
pub(crate) const LINES: &str = "\
dispatcher_api_image: localhost/app:one
dispatcher_api_exec: [/usr/bin/perl, /app/serve, '8000']
dispatcher_api_health_cmd: [/usr/bin/perl, /app/check, '8000']
dispatcher_api_container_port: 8000
dispatcher_api_notify: healthy
dispatcher_api_container_scale: 2
dispatcher_api_start_timeout: 30
dispatcher_haproxy_check_path: /health
";

/// Puts the images of it onto a host that runs already.
pub(crate) async fn pack(host: &Host) -> Result<()> {
    host.feed("mkdir -p /app; cat >/app/serve", SERVE.as_bytes()).await?;
    host.feed("cat >/app/check", CHECK.as_bytes()).await?;
    host.run(IMAGES).await?;
    Ok(())
}

/// A host with the images, quadletgen and a `deploy.yml`; nothing of it is deployed.
pub(crate) async fn prepared(name: &str) -> Result<Deployed> {
    let host = Host::with_images(name, &["debian", "dispatcher-api"]).await?;
    deployed::install_tool(&host).await?;
    pack(&host).await?;
    told(host).await
}

/// The same of a host that has all that already.
pub(crate) async fn told(host: Host) -> Result<Deployed> {
    let write = "mkdir -p /etc/dispatcher-api; cat >/etc/dispatcher-api/deploy.yml";
    host.feed(write, LINES.as_bytes()).await?;
    Ok(Deployed { host })
}

/// The same, applied.
pub(crate) async fn applied(name: &str) -> Result<Deployed> {
    let deployed = prepared(name).await?;
    deployed.host.run("quadletgen apply").await?;
    Ok(deployed)
}

/// Callers that ask one after the other, and what of it failed.
pub(crate) struct Callers {
    end: CancellationToken,
    at_work: Vec<JoinHandle<Result<usize>>>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Callers {
    /// Begins.
    pub(crate) fn start(deployed: &Deployed) -> Self {
        let (end, failures) = (CancellationToken::new(), Arc::<Mutex<Vec<String>>>::default());
        let url = format!("http://{}/", deployed.host.address);
        let one = |_| tokio::spawn(ask(url.clone(), end.clone(), Arc::clone(&failures)));
        let at_work = (0..4).map(one).collect();
        Self { end, at_work, failures }
    }

    /// Ends; every request was answered.
    pub(crate) async fn finish(self, during: &str) -> Result<()> {
        self.end.cancel();
        let mut requests = 0;
        for caller in self.at_work {
            requests += caller.await??;
        }
        let failures = self.failures.lock().unwrap().clone();
        println!("{during}: {requests} requests, {} failed", failures.len());
        let first: Vec<&String> = failures.iter().take(10).collect();
        ensure!(first.is_empty(), "{during}: {} of {requests} failed: {first:#?}", failures.len());
        ensure!(requests > 0, "{during}: nobody asked");
        Ok(())
    }
}

async fn ask(
    url: String,
    end: CancellationToken,
    failures: Arc<Mutex<Vec<String>>>,
) -> Result<usize> {
    let client = Client::builder().timeout(Duration::from_secs(30)).build()?;
    let (begun, mut requests) = (Instant::now(), 0);
    while !end.is_cancelled() {
        let request = match requests % 2 {
            0 => client.get(&url),
            _ => client.post(&url).body("a body"),
        };
        let answered = async {
            let answer = request.send().await?.error_for_status()?.text().await?;
            ensure!(["one\n", "two\n"].contains(&answer.as_str()), "answered {answer:?}");
            Ok(())
        };
        if let Err(error) = answered.await {
            failures.lock().unwrap().push(format!("{:.2?}: {error:#}", begun.elapsed()));
        }
        requests += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(requests)
}
