//! The command line of the daemon.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tracing_subscriber::EnvFilter;
use xenpcid::control::Control;
use xenpcid::startup::{LOCK_FILE, check_dom0, check_hypervisor, lock};
use xenpcid::supervisor::Supervisor;
use xenpcid_config::{Config, Policies};
use xenpcid_control::Server;
use xenpcid_host::Host;
use xenpcid_host::dom0::Dom0Facts;
use xenstore_protocol::{Client, Endpoint};

/// PCI passthrough for Xen: gives devices of the host to guests, as declared in a TOML file.
#[derive(Parser)]
#[command(name = "xenpcid", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Runs in the foreground and logs to standard error; XENPCID_LOG sets what (error, warn, info, debug, trace).\n\
    SIGTERM ends it: devices that no guest has go back to dom0, running guests keep theirs."
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
    let policies = Policies::load(&arguments.policies)?;
    let config = Config::load_with(&arguments.config, &policies)?;
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
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        let supervisor = Supervisor::new(host, xenstore, config, policies, |_| {});
        let file = arguments.config.display().to_string();
        let control = Control::new(supervisor.pool(), Some(format!("{major}.{minor}")), Some(file));
        let server = Server::bind(&arguments.socket)?;
        // Each connection is a task of this thread, and ends with the daemon.
        LocalSet::new()
            .run_until(async {
                let answering = spawn_local(server.run(control));
                let result = supervisor.run(shutdown).await;
                answering.abort();
                result
            })
            .await?;
        Ok(())
    })
}

#[cfg(feature = "libxenctrl")]
fn open_host() -> Result<Host, xenpcid_host::HostError> {
    Host::open()
}

#[cfg(not(feature = "libxenctrl"))]
fn open_host() -> Result<Host, &'static str> {
    Err("built without libxenctrl, so that only `xenpcid demo` works; build with the default features")
}
