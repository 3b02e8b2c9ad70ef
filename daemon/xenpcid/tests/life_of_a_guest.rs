//! The whole daemon in one process, on the simulated host, with simulated guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use harness::{E1000, E1000E, Events, NVME, ONE_GUEST, end, host_with_devices, released, start, under_the_daemon};
use pcifront_shim::Width;
use xenpcid::supervisor::Event;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Errno, PciHost, Pirq};
use xenpcid_simhost::{DomainOptions, DriverInterrupts, Interrupt};
use xenstore_protocol::XenbusState;
use xenstore_protocol::pci_nodes::PciNodes;

const TWO_GUESTS: &str = r#"
[[domain]]
name = "web1"
devices = ["0000:01:00.0"]

[[domain]]
uuid = "02020202-0202-0202-0202-020202020202"
devices = ["0000:02:00.0"]
"#;

async fn refused(events: &mut Events) {
    let event = events.recv().await;
    assert!(matches!(event, Some(Event::Refused(_))), "{event:?}");
}

#[tokio::test]
async fn guest_finds_its_devices_and_everything_is_taken_back_when_it_is_gone() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let functions = guest.connected().await?;
        let [nvme, e1000e, e1000] = functions.as_slice() else { panic!("{functions:?}") };
        let interrupts = guest.start_driver(nvme.address, 2).await?;
        assert!(matches!(&interrupts, DriverInterrupts::Msix(pirqs) if pirqs.len() == 2), "{interrupts:?}");
        let interrupts = guest.start_driver(e1000e.address, 3).await?;
        assert!(matches!(&interrupts, DriverInterrupts::Msix(pirqs) if pirqs.len() == 3), "{interrupts:?}");
        assert_eq!(guest.start_driver(e1000.address, 1).await?, DriverInterrupts::Line(23));
        for device in [NVME, E1000E, E1000] {
            assert_eq!(world.dma(device)?, guest.domain());
        }
        end(&world, &guest, &mut events).await?;
        for device in [NVME, E1000E, E1000] {
            assert_eq!(world.owner(device), Some(DomainId::IO));
        }
        assert_eq!(world.leaks(), [""; 0]);
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
    for (device, driver) in [(NVME, "nvme"), (E1000E, "e1000e"), (E1000, "e1000")] {
        assert_eq!(world.owner(device), Some(DomainId::DOM0));
        assert_eq!(world.describe(device).unwrap().driver.as_deref(), Some(driver));
    }
}

#[tokio::test]
async fn linux_guest_that_enables_twice_and_disables_by_the_wrong_operation_is_served() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        // What Linux 6.1 does for NVMe: one vector, disable_msi for it, then as many as there are queues.
        let (first, second, third) = guest
            .with_frontend(move |frontend| {
                let first = frontend.enable_msix(nvme, &[0]);
                frontend.disable_msi(nvme)?;
                let second = frontend.enable_msix(nvme, &[0, 1]);
                Ok::<_, pcifront_shim::RequestError>((first, second, frontend.enable_msix(nvme, &[0, 1, 2])))
            })
            .await??;
        assert_eq!(vectors(first), 1);
        assert_eq!(vectors(second), 2);
        assert_eq!(vectors(third), 3);
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

fn vectors(outcome: Result<pcifront_shim::MsixOutcome, pcifront_shim::RequestError>) -> usize {
    match outcome {
        Ok(pcifront_shim::MsixOutcome::Enabled(pirqs)) => pirqs.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn msi_and_msix_take_each_other_s_place_and_reach_the_guest() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let e1000e = guest.connected().await?[1].address;
        // Also makes it a bus master, without which there is no MSI.
        guest.start_driver(e1000e, 3).await?;
        let msi = guest.with_frontend(move |frontend| frontend.enable_msi(e1000e)).await??;
        assert_eq!(world.raise(E1000E, Interrupt::Msi)?, (guest.domain(), Pirq(msi)));
        let msix = guest.with_frontend(move |frontend| frontend.enable_msix(e1000e, &[1, 0])).await?;
        assert_eq!(vectors(msix), 2);
        assert_eq!(world.raise(E1000E, Interrupt::Msix(1))?.0, guest.domain());
        assert!(world.raise(E1000E, Interrupt::Msi).is_err());
        guest.with_frontend(move |frontend| frontend.disable_msix(e1000e)).await??;
        assert_eq!(world.raise(E1000E, Interrupt::Line)?, (guest.domain(), Pirq(21)));
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn guest_that_asks_for_more_vectors_than_there_are_is_told_how_many_it_can_have() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        let outcome = guest
            .with_frontend(move |frontend| {
                let all: Vec<u16> = (0..65).collect();
                frontend.enable_msix(nvme, &all)
            })
            .await??;
        // Xen's default: extra_guest_irqs=32.
        assert_eq!(outcome, pcifront_shim::MsixOutcome::Available(32));
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn domain_without_iommu_gets_nothing_and_the_devices_stay_ready() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let options = DomainOptions { iommu: false, ..DomainOptions::default() };
        let domain = world.create_domain("web1", [1; 16], options).await?;
        refused(&mut events).await;
        let nodes = PciNodes::new(domain);
        let store = world.xenstore().client(DomainId::DOM0).await?;
        assert!(!store.exists(nodes.backend()).await?);
        world.destroy_domain(domain).await?;

        let guest = start(&world, "web1", 1).await?;
        assert_eq!(guest.connected().await?.len(), 3);
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn hardware_virtualised_domain_gets_nothing() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let options = DomainOptions { hvm: true, ..DomainOptions::default() };
        world.create_domain("web1", [1; 16], options).await?;
        refused(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn death_of_one_guest_leaves_the_other_alone_and_its_device_works_in_the_next() {
    let world = host_with_devices();

    under_the_daemon(&world, TWO_GUESTS, async |mut events| {
        let first = start(&world, "web1", 1).await?;
        let second = start(&world, "any name", 2).await?;
        let nvme = first.connected().await?[0].address;
        let e1000e = second.connected().await?[0].address;
        first.start_driver(nvme, 2).await?;
        second.start_driver(e1000e, 3).await?;

        end(&world, &first, &mut events).await?;
        assert_eq!(world.dma(E1000E)?, second.domain());
        let read = second.with_frontend(move |frontend| frontend.config_read(e1000e, 0, Width::Dword)).await??;
        assert_eq!(read, 0x10d3_8086);

        let third = start(&world, "web1", 3).await?;
        let nvme = third.connected().await?[0].address;
        third.start_driver(nvme, 2).await?;
        assert_eq!(world.dma(NVME)?, third.domain());
        world.destroy_domain(third.domain()).await?;
        end(&world, &second, &mut events).await?;
        released(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn domain_that_starts_before_its_former_life_is_taken_down_gets_the_devices_in_the_end() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let first = start(&world, "web1", 1).await?;
        first.connected().await?;
        let next = start(&world, "web1", 1).await?;
        end(&world, &first, &mut events).await?;
        assert_eq!(next.connected().await?.len(), 3);
        end(&world, &next, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn guest_that_writes_nonsense_into_its_own_nodes_harms_only_itself() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        let nodes = PciNodes::new(guest.domain());
        for nonsense in ["", "9999999999", "four", "-1", "\u{fffd}"] {
            guest.xenstore().write(&nodes.frontend_state(), nonsense).await?;
        }
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn page_that_cannot_be_mapped_closes_the_bus_and_the_devices_come_back_with_the_domain() {
    let world = host_with_devices();
    world.fail("map_grant", 1, Errno::EINVAL);

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        guest.wait_for(|status| status.state == XenbusState::Closed).await?;
        assert_eq!(world.owner(NVME), Some(guest.domain()));
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn daemon_that_ends_leaves_a_running_guest_its_devices() {
    let world = host_with_devices();
    let mut running = None;

    under_the_daemon(&world, TWO_GUESTS, async |_| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        running = Some(guest);
        Ok(())
    })
    .await;

    let guest = running.unwrap();
    assert_eq!(world.owner(NVME), Some(guest.domain()));
    let served = world.leaks().into_iter().filter(|leak| leak.contains("grant") || leak.contains("bound"));
    assert_eq!(served.collect::<Vec<_>>(), [""; 0]);
    assert_eq!(world.owner(E1000E), Some(DomainId::DOM0));
}

#[tokio::test]
async fn device_of_a_guest_that_a_former_daemon_served_is_not_touched() {
    let world = host_with_devices();
    let mut running = None;
    under_the_daemon(&world, TWO_GUESTS, async |_| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        running = Some(guest);
        Ok(())
    })
    .await;
    let resets = world.resets(NVME);

    under_the_daemon(&world, TWO_GUESTS, async |mut events| {
        refused(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.resets(NVME), resets);
    assert_eq!(world.owner(NVME), Some(running.unwrap().domain()));
}

#[tokio::test]
async fn requests_that_no_honest_guest_makes_get_the_protocol_s_errors() {
    use pcifront_shim::Request;
    use pcifront_shim::abi::{ErrorCode, Operation};
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        let hardware = world.hardware(NVME);
        let read =
            |offset, size| Request { offset, size, ..Request::new(Operation::CONFIG_READ, Sbdf::from_devfn(0, 0, 0)) };
        let cases = [
            (read(0, 4), ErrorCode::SUCCESS),
            (read(-4, 4), ErrorCode::INVALID_OFFSET),
            (read(4096, 4), ErrorCode::INVALID_OFFSET),
            (read(2, 4), ErrorCode::INVALID_OFFSET),
            (read(0, 3), ErrorCode::INVALID_OFFSET),
            (read(i32::MAX, 1), ErrorCode::INVALID_OFFSET),
            (read(i32::MIN, 4), ErrorCode::INVALID_OFFSET),
            (Request { devfn: 0x100, ..read(0, 4) }, ErrorCode::DEV_NOT_FOUND),
            (Request { bus: 1, ..read(0, 4) }, ErrorCode::DEV_NOT_FOUND),
            (Request { domain: u32::MAX, ..read(0, 4) }, ErrorCode::DEV_NOT_FOUND),
            (Request { operation: Operation::AER_DETECTED, ..read(0, 4) }, ErrorCode::NOT_IMPLEMENTED),
            (Request { operation: Operation::ENABLE_MULTI_MSI, ..read(0, 4) }, ErrorCode::NOT_IMPLEMENTED),
            (Request { operation: Operation(u32::MAX), ..read(0, 4) }, ErrorCode::NOT_IMPLEMENTED),
            // The NVMe has no MSI; no entries, twice the same entry, an entry outside of the table, more than fit the page.
            (Request { operation: Operation::ENABLE_MSI, ..read(0, 4) }, ErrorCode::NOT_IMPLEMENTED),
            (msix(0, &[]), ErrorCode::OP_FAILED),
            (msix(2, &[1, 1]), ErrorCode::OP_FAILED),
            (msix(1, &[65]), ErrorCode::OP_FAILED),
            (msix(129, &[0]), ErrorCode::OP_FAILED),
            (msix(u32::MAX, &[0]), ErrorCode::OP_FAILED),
        ];
        for (request, expected) in cases {
            let asked = request.clone();
            let completed = guest.with_frontend(move |frontend| frontend.request(&asked)).await??;
            assert_eq!(completed.error, expected, "{request:?}");
        }
        assert_eq!(world.hardware(NVME), hardware);
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
    assert_eq!(world.violations(), [""; 0]);

    fn msix(count: u32, entries: &[u16]) -> Request {
        let entries = entries.iter().copied().collect();
        let request = Request::new(Operation::ENABLE_MSIX, Sbdf::from_devfn(0, 0, 0));
        Request { value: count, entries, ..request }
    }
}
