//! What a policy lets a guest do with the registers of its devices, through the whole daemon, on the simulated host.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::path::PathBuf;
use std::rc::Rc;

use harness::{NVME, ONE_GUEST, end, host_with_devices, start, under_the_daemon, under_the_daemon_with};
use pcifront_shim::{MsixOutcome, RequestError, Width};
use xenpcid::control::Control;
use xenpcid::files::Files;
use xenpcid::supervisor::Event;
use xenpcid::toolstack::Toolstack;
use xenpcid_address::Sbdf;
use xenpcid_config::Policies;
use xenpcid_control::{Client, Denied, DescribeDevice, ListDenied, ListDevices, Operation, Outcome, Refusal, Server};
use xenpcid_host::{PciHost, Pirq};
use xenpcid_simhost::{DriverInterrupts, Interrupt, SimDevice, World};

const IGB: Sbdf = Sbdf::from_devfn(0, 3, 0);
/// Where the recorded 82576 has its SR-IOV capability, and NumVFs in it.
const SRIOV: usize = 0x160;
const NUM_VFS: u16 = 0x170;
const GUEST_WITH_IGB: &str = r#"
[[domain]]
name = "web1"
devices = [{ bdf = "0000:03:00.0", name = "uplink" }]
"#;
const GUEST_WITH_NVME: &str = r#"
[[domain]]
name = "web1"
devices = ["0000:01:00.0"]
"#;

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Where a conventional capability starts.
fn capability(config: &[u8], id: u8) -> usize {
    let mut at = usize::from(config[0x34]);
    while config[at] != id {
        at = usize::from(config[at + 1]);
        assert_ne!(at, 0, "there is no capability {id:#x}");
    }
    at
}

/// A control socket of the daemon, and what `question` asks there.
async fn ask<T: Send + 'static>(
    toolstack: Rc<Toolstack>,
    question: impl FnOnce(&mut Client) -> T + Send + 'static,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("control");
    let server = Server::bind(&path).unwrap();
    let files = Files { config: folder.path().join("xenpcid.toml"), policies: folder.path().join("policies") };
    let asking = tokio::task::spawn_blocking(move || question(&mut Client::connect(&path).unwrap()));
    let control = Control::new(toolstack, files, None);
    tokio::task::LocalSet::new()
        .run_until(async {
            tokio::select! {
                () = server.run(control) => panic!("the server ended"),
                answer = asking => answer.unwrap(),
            }
        })
        .await
}

#[tokio::test]
async fn write_to_a_hidden_capability_reaches_nothing_and_is_counted_by_register() {
    let world = World::new();
    world.add_device(SimDevice::igb(IGB));
    let policies = Policies::shipped().unwrap();

    under_the_daemon_with(world.host(), &world, GUEST_WITH_IGB, policies, async |mut events, toolstack| {
        assert_eq!(word(&world.hardware(IGB), SRIOV), 0x0010, "the simulated device has SR-IOV elsewhere");
        let guest = start(&world, "web1", 1).await?;
        let igb = guest.connected().await?[0].address;
        let before = world.hardware(IGB);
        let seen = guest
            .with_frontend(move |frontend| {
                for value in [3, 5] {
                    frontend.config_write(igb, NUM_VFS, Width::Word, value)?;
                }
                frontend.config_read(igb, NUM_VFS, Width::Word)
            })
            .await??;
        assert_eq!(seen, 0);
        assert_eq!(world.hardware(IGB), before);

        let denied =
            ask(toolstack.clone(), |client| client.call(&ListDenied { device: Some(IGB) }).unwrap().denied).await;
        let of_num_vfs: Vec<&Denied> = denied.iter().filter(|denied| denied.offset == NUM_VFS).collect();
        let [found] = of_num_vfs[..] else { panic!("{denied:?}") };
        assert_eq!((found.bits, found.count, found.last_value, found.width), (0x7, 2, 5, 2));
        assert_eq!((found.operation, found.outcome, found.hidden), (Operation::Write, Outcome::Discarded, true));
        assert_eq!(found.capability.as_deref(), Some("sriov"));
        assert_eq!((found.guest.id, found.guest.name.as_str()), (guest.domain().0, "web1"));

        let (devices, description, unknown) = ask(toolstack, |client| {
            let devices = client.call(&ListDevices {}).unwrap().devices;
            let description = client.call(&DescribeDevice { device: IGB }).unwrap().description;
            (devices, description, client.call(&ListDenied { device: Some(NVME) }).unwrap_err())
        })
        .await;
        assert_eq!((devices[0].policy.as_deref(), devices[0].name.as_deref()), (Some("default"), Some("uplink")));
        assert_eq!(description.snapshot()?.device, 0x10c9);
        assert!(
            unknown.to_string().contains(&Refusal::DeviceNotFound { device: NVME.to_string() }.to_string()),
            "{unknown}"
        );
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn function_level_reset_by_the_guest_leaves_it_its_addresses_and_takes_its_interrupts() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        assert!(matches!(guest.start_driver(nvme, 2).await?, DriverInterrupts::Msix(_)));
        let (before, resets) = (world.hardware(NVME), world.resets(NVME));
        let control = u16::try_from(capability(&before, 0x10) + 8)?;

        guest
            .with_frontend(move |frontend| {
                let now = frontend.config_read(nvme, control, Width::Word)?;
                frontend.config_write(nvme, control, Width::Word, now | 0x8000)?;
                assert_eq!(frontend.config_read(nvme, control, Width::Word)? & 0x8000, 0);
                // As Linux does afterwards: the command register comes back with what was saved.
                frontend.config_write(nvme, 0x04, Width::Word, 0x0406)
            })
            .await??;

        assert_eq!(world.resets(NVME), resets + 1);
        assert_eq!(world.hardware(NVME)[0x10..0x28], before[0x10..0x28]);
        assert_eq!(word(&world.hardware(NVME), 0x04) & 0x0406, 0x0006);
        assert!(world.raise(NVME, Interrupt::Msix(0)).is_err());
        let DriverInterrupts::Msix(pirqs) = guest.start_driver(nvme, 2).await? else { panic!() };
        for (entry, pirq) in (0..).zip(pirqs) {
            assert_eq!(world.raise(NVME, Interrupt::Msix(entry))?, (guest.domain(), Pirq(u32::from(pirq))));
        }
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn last_value_is_what_the_access_wrote_and_not_what_else_was_in_the_request() {
    let world = host_with_devices();

    under_the_daemon_with(
        world.host(),
        &world,
        GUEST_WITH_NVME,
        Policies::shipped().unwrap(),
        async |mut events, toolstack| {
            let guest = start(&world, "web1", 1).await?;
            let nvme = guest.connected().await?[0].address;
            let control = u16::try_from(capability(&world.hardware(NVME), 0x10) + 8)?;
            // Max Payload Size, which default discards, by one byte of the two of Device Control.
            guest
                .with_frontend(move |frontend| {
                    let now = frontend.config_read(nvme, control, Width::Byte)?;
                    frontend.config_write(nvme, control, Width::Byte, 0xdead_be00 | (now ^ 0x20))
                })
                .await??;

            let denied = ask(toolstack, |client| client.call(&ListDenied { device: Some(NVME) }).unwrap().denied).await;
            let found = denied.iter().find(|denied| denied.offset == control).unwrap();
            assert_eq!((found.register.as_deref(), found.width, found.bits), (Some("pcie.devctl"), 2, 0x20));
            assert_eq!(found.last_value & 0xff00, 0, "{:#x}", found.last_value);
            end(&world, &guest, &mut events).await
        },
    )
    .await;
}

#[tokio::test]
async fn guest_sees_and_gets_no_more_vectors_than_its_domain_has() {
    let world = host_with_devices();
    let toml = format!("{}\nvectors = 2\n", GUEST_WITH_NVME.trim());

    under_the_daemon(&world, &toml, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        let control = u16::try_from(capability(&world.hardware(NVME), 0x11) + 2)?;
        let (shown, too_many, enough) = guest
            .with_frontend(move |frontend| {
                let shown = frontend.config_read(nvme, control, Width::Word)?;
                Ok::<_, RequestError>((
                    shown,
                    frontend.enable_msix(nvme, &[0, 1, 2]),
                    frontend.enable_msix(nvme, &[0, 1])?,
                ))
            })
            .await??;
        assert_eq!(shown & 0x7ff, 1);
        assert!(too_many.is_err(), "{too_many:?}");
        assert!(matches!(&enough, MsixOutcome::Enabled(pirqs) if pirqs.len() == 2), "{enough:?}");
        end(&world, &guest, &mut events).await
    })
    .await;
}

#[tokio::test]
async fn policy_for_other_devices_is_refused_and_the_device_stays_with_dom0() {
    let world = host_with_devices();
    let toml = r#"
[[domain]]
name = "web1"
devices = [{ bdf = "0000:01:00.0", policy = "network" }]
"#;

    under_the_daemon(&world, toml, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let event = events.recv().await;
        assert!(matches!(event, Some(Event::Refused(_))), "{event:?}");
        assert_eq!(world.describe(NVME)?.driver.as_deref(), Some("nvme"));
        world.destroy_domain(guest.domain()).await?;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn what_a_guest_wrote_to_the_device_does_not_reach_the_next_guest() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        let before = world.hardware(NVME);
        let control = u16::try_from(capability(&before, 0x10) + 8)?;
        let reads_of_128_bytes = u32::from(word(&before, control.into()) & !0x7000);
        guest
            .with_frontend(move |frontend| {
                frontend.config_write(nvme, 0x0c, Width::Byte, 0x92)?;
                frontend.config_write(nvme, control, Width::Word, reads_of_128_bytes)
            })
            .await??;
        let written = world.hardware(NVME);
        assert_ne!((written[0x0c], word(&written, control.into())), (before[0x0c], word(&before, control.into())));

        end(&world, &guest, &mut events).await?;

        let after = world.hardware(NVME);
        assert_eq!((after[0x0c], word(&after, control.into())), (before[0x0c], word(&before, control.into())));
        Ok(())
    })
    .await;
}
