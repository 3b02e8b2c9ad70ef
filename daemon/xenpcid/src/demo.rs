//! `xenpcid demo`: the daemon itself, on a simulated host with a simulated guest.

use std::error::Error;
use std::io::{self, Write};

use pcifront_shim::Width;
use pcifront_shim::guest::DiscoveredFunction;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Policies};
use xenpcid_host::PciHost;
use xenpcid_policy::Snapshot;
use xenpcid_simhost::{DomainOptions, SimDevice, SimGuest, World};

use crate::supervisor::{Event, Supervisor};

const NVME: Sbdf = Sbdf::from_devfn(0, 1, 0x00);
const E1000E: Sbdf = Sbdf::from_devfn(0, 2, 0x00);
const E1000: Sbdf = Sbdf::from_devfn(0, 0, 0x38);
const DEVICES: [Sbdf; 3] = [NVME, E1000E, E1000];

const CONFIGURATION: &str = r#"
[[domain]]
name = "web1"
devices = ["0000:01:00.0", "0000:02:00.0", { bdf = "0000:00:07.0", reset = "best-effort" }]
"#;

/// A line for whoever watches; an error if nobody does any more.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*) };
}

/// UUID of the guest.
const UUID: [u8; 16] = [0x5e; 16];

/// Shows a claim, a handshake, what a guest finds, what becomes of its writes, and that everything is taken back.
///
/// # Errors
/// What went wrong; nothing of this machine is involved.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let world = World::new();
    for device in [SimDevice::nvme(NVME), SimDevice::e1000e(E1000E), SimDevice::e1000(E1000)] {
        world.add_device(device);
    }
    heading("A simulated host with Xen, xenstore and three devices")?;
    show_devices(&world)?;
    heading("The daemon starts with this configuration")?;
    say!("{}", CONFIGURATION.trim())?;

    let (report, events) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let supervisor = Supervisor::new(
        world.host(),
        world.xenstore().client(DomainId::DOM0).await?,
        Config::parse(CONFIGURATION, "demo.toml")?,
        Policies::shipped()?,
        // The demonstration ends only after the daemon does.
        move |event| drop(report.send(event)),
    );
    let story = async {
        let told = tell(&world, events).await;
        // The daemon has ended by itself if nobody listens; its own result says why.
        let _ = stop.send(());
        told
    };
    let shutdown = async {
        let _ = stopped.await;
    };
    let both = async { tokio::join!(supervisor.run(shutdown), story) };
    let (ran, told) = LocalSet::new().run_until(both).await;
    ran?;
    told?;

    heading("The daemon ended: the devices are dom0's again")?;
    show_devices(&world)?;
    let leaks = world.leaks();
    heading("What was given and not taken back, by the host's own books")?;
    for leak in &leaks {
        say!("{leak}")?;
    }
    if !leaks.is_empty() {
        return Err("the ledger is not empty; this is a defect, please report it".into());
    }
    say!("nothing: the ledger is empty")?;
    Ok(())
}

/// The life of a guest.
async fn tell(world: &World, mut events: mpsc::UnboundedReceiver<Event>) -> Result<(), Box<dyn Error>> {
    expect(events.recv().await, |event| matches!(event, Event::Ready))?;
    heading("Claimed: taken from their drivers, reset, in quarantine, where their DMA reaches nothing")?;
    show_devices(world)?;

    heading("The guest web1 starts")?;
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await?;
    let guest = SimGuest::start(world, domain);
    let functions = guest.connected().await?;
    say!("its pcifront published a page and a port; frontend and backend are Connected")?;
    heading("What it finds on its virtual bus")?;
    for function in &functions {
        show_function(function)?;
    }
    heading("Its drivers start")?;
    for (function, device) in functions.iter().zip(DEVICES) {
        let interrupts = guest.start_driver(function.address, 2).await?;
        say!("{}  interrupts: {interrupts:?}; its DMA reaches domain {}", function.address, world.dma(device)?)?;
    }
    show_writes(world, &guest, &functions).await?;

    heading("The guest is destroyed")?;
    world.destroy_domain(domain).await?;
    drop(guest);
    expect(events.recv().await, |event| matches!(event, Event::Released(_)))?;
    say!("its devices were taken back, reset, and wait in quarantine for the next guest of that name")?;
    show_devices(world)
}

fn expect(event: Option<Event>, wanted: impl Fn(&Event) -> bool) -> Result<(), Box<dyn Error>> {
    match event {
        Some(event) if wanted(&event) => Ok(()),
        other => Err(format!("the daemon did something else: {other:?}").into()),
    }
}

/// One write for each of the three verbs.
async fn show_writes(world: &World, guest: &SimGuest, functions: &[DiscoveredFunction]) -> Result<(), Box<dyn Error>> {
    const WRITES: [(&str, u16, Width, u32); 3] = [
        ("pass: cache line size 0x10", 0x0c, Width::Byte, 0x10),
        ("emulate: command 0, which would end decoding", 0x04, Width::Word, 0),
        ("discard: class code 0xff0000ff", 0x08, Width::Dword, 0xff00_00ff),
    ];
    heading("Three writes of the guest to its NVMe, and what the hardware has then")?;
    let address = functions.first().ok_or("the guest found nothing")?.address;
    for (what, offset, width, value) in WRITES {
        let before = register(world, offset, width);
        let seen = guest
            .with_frontend(move |frontend| {
                frontend.config_write(address, offset, width, value)?;
                frontend.config_read(address, offset, width)
            })
            .await??;
        let after = register(world, offset, width);
        say!("{what:46}  guest then reads {seen:#x}, hardware {before:#x} -> {after:#x}")?;
    }
    Ok(())
}

/// A register of the NVMe as the hardware has it.
fn register(world: &World, offset: u16, width: Width) -> u32 {
    let bytes = world.hardware(NVME);
    let value = bytes.iter().skip(usize::from(offset)).take(usize::from(width.bytes())).rev();
    value.fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn show_devices(world: &World) -> Result<(), Box<dyn Error>> {
    for function in DEVICES {
        let description = PciHost::describe(world, function)?;
        let owner = match world.owner(function) {
            Some(DomainId::DOM0) => "dom0".to_owned(),
            Some(DomainId::IO) => "quarantine".to_owned(),
            Some(domain) => format!("domain {domain}"),
            None => "nobody".to_owned(),
        };
        say!(
            "{function}  {:04x}:{:04x}  driver {:9}  owner {owner:11}  resets {}",
            description.vendor,
            description.device,
            description.driver.as_deref().unwrap_or("none"),
            world.resets(function),
        )?;
    }
    Ok(())
}

fn show_function(function: &DiscoveredFunction) -> io::Result<()> {
    say!(
        "{}  {:04x}:{:04x}  class {:06x}  interrupt {}",
        function.address,
        function.vendor,
        function.device,
        function.class,
        function.interrupt_line
    )?;
    for bar in &function.bars {
        let name =
            if usize::from(bar.index) == Snapshot::ROM { "ROM  ".to_owned() } else { format!("BAR {}", bar.index) };
        say!("    {name}  {:#x}, {} bytes, {:?}", bar.address, bar.size, bar.kind)?;
    }
    let capabilities: Vec<_> = function
        .capabilities
        .iter()
        .map(|capability| format!("{:02x} at {:#04x}", capability.id, capability.offset))
        .collect();
    if !capabilities.is_empty() {
        say!("    capabilities {}", capabilities.join(", "))?;
    }
    Ok(())
}

fn heading(text: &str) -> io::Result<()> {
    say!("\n== {text}")
}
