//! The command line of the daemon.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tracing_subscriber::EnvFilter;
use xenpcid::control::Control;
use xenpcid::files::Files;
use xenpcid::startup::{HOLDS, LOCK_FILE, check_dom0, check_hypervisor, lock};
use xenpcid::supervisor::{Event, Supervisor};
use xenpcid_control::{Admission, Server};
use xenpcid_host::Host;
use xenpcid_host::dom0::Dom0Facts;
use xenstore_protocol::{Client, Endpoint};

/// PCI passthrough for Xen: gives devices of the host to guests, as declared in a TOML file.
#[derive(Parser)]
#[command(name = "xenpcid", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Runs in the foreground and logs to standard error; XENPCID_LOG sets what (error, warn, info, debug, trace).\n\
    SIGTERM ends it: devices that no guest has go back to dom0, running guests keep theirs. SIGHUP has it read its files anew."
)]
struct Arguments {
    /// What is declared: domains and their devices.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/xenpcid/xenpcid.toml")]
    config: PathBuf,

    /// The operator's own policies, one in each *.toml; those that come with xenpcid are always there.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/xenpcid/policies")]
    policies: PathBuf,

    /// The socket for `xenpci`.
    #[arg(long, value_name = "PATH", default_value = xenpcid_control::SOCKET)]
    socket: PathBuf,

    /// Only reads the configuration and the policies, says what is wrong with it, and ends.
    #[arg(long)]
    check: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon on a simulated host with a simulated guest and shows what happens. Needs neither Xen nor root.
    Demo,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The demonstration tells its own story.
    let default = if arguments.command.is_some() { "error" } else { "info" };
    let filter = match EnvFilter::builder().parse(std::env::var("XENPCID_LOG").unwrap_or_else(|_| default.to_owned())) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("xenpcid: XENPCID_LOG is not a log filter: {error}; write error, warn, info, debug or trace");
            return ExitCode::FAILURE;
        }
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // The journal has its own clock.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        subscriber.without_time().init()
    } else {
        subscriber.init()
    }

    let result = match arguments.command {
        Some(Command::Demo) => runtime().and_then(|runtime| runtime.block_on(xenpcid::demo::run())),
        None => daemon(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenpcid: {}", with_sources(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it.
fn with_sources(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |&source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

fn runtime() -> Result<tokio::runtime::Runtime, Box<dyn Error>> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn daemon(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let files = Files { config: arguments.config.clone(), policies: arguments.policies.clone() };
    let (config, policies) = files.load()?;
    if arguments.check {
        return Ok(());
    }
    check_dom0(&Dom0Facts::read(Path::new("/")))?;
    let _only_daemon = lock(Path::new(LOCK_FILE))?;
    let host = open_host()?;
    let info = host.hypervisor.info()?;
    check_hypervisor(&info)?;
    let (major, minor) = info.version;
    tracing::info!(xen = format_args!("{major}.{minor}"), domains = config.domains.len(), "starting");
    runtime()?.block_on(async {
        let xenstore = Client::connect(Endpoint::from_environment()).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut reload = signal(SignalKind::hangup())?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            tell_systemd(&[NotifyState::Stopping]);
        };
        let ready = |event| {
            if let Event::Ready = event {
                tell_systemd(&[NotifyState::Ready]);
            }
        };
        let admission = match &config.settings.read_only_group {
            Some(group) => Admission::default().with_readers(group)?,
            None => Admission::default(),
        };
        let supervisor = Supervisor::new(host, xenstore, config, policies, ready).with_records(PathBuf::from(HOLDS));
        let toolstack = supervisor.toolstack();
        let control = Control::new(toolstack.clone(), files.clone(), Some(format!("{major}.{minor}")));
        let server = Server::bind(&arguments.socket)?.with_admission(admission)?;
        let reloading = async move {
            while reload.recv().await.is_some() {
                tell_systemd(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
                match files.load() {
                    Ok((config, policies)) => {
                        tracing::info!(
                            domains = config.domains.len(),
                            devices = config.devices.len(),
                            "configuration read anew"
                        );
                        toolstack.declare(config, policies);
                    }
                    Err(error) => {
                        tracing::error!("the configuration stays as it was: {}", with_sources(error.as_ref()))
                    }
                }
                tell_systemd(&[NotifyState::Ready]);
            }
            Ok::<_, std::io::Error>(())
        };
        // Each connection is a task of this thread, and ends with the daemon.
        LocalSet::new()
            .run_until(async {
                let answering = spawn_local(server.run(control));
                let reloading = spawn_local(reloading);
                let result = supervisor.run(shutdown).await;
                answering.abort();
                reloading.abort();
                result
            })
            .await?;
        Ok(())
    })
}

/// Tells the service manager, if one started us, how far we are (sd_notify(3)).
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

#[cfg(feature = "libxenctrl")]
fn open_host() -> Result<Host, xenpcid_host::HostError> {
    Host::open()
}

#[cfg(not(feature = "libxenctrl"))]
fn open_host() -> Result<Host, &'static str> {
    Err("built without libxenctrl, so that only `xenpcid demo` works; build with the default features")
}
