//! What virtual functions of a pool are given beside themselves: a MAC address and a VLAN, which only their guest has.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use harness::{end, start, with_toolstack};
use xenpcid::plan::Request;
use xenpcid::session::Guest;
use xenpcid_address::Sbdf;
use xenpcid_config::Device;
use xenpcid_host::{Errno, PciHost};
use xenpcid_simhost::{SimDevice, VirtualFunctionAddress, World};

const PHYSICAL: Sbdf = Sbdf::from_devfn(0, 3, 0);
const MAC: [u8; 6] = [0x00, 0x16, 0x3e, 0x12, 0x34, 0x56];
const POOL: &str = r#"
[[pool]]
name = "lan"
physical-function = { bdf = "0000:03:00.0" }
count = 1

[[domain]]
name = "addressed"
devices = [{ from = "lan", mac = "00:16:3e:12:34:56", vlan = 7 }]

[[domain]]
name = "plain"
devices = [{ from = "lan" }]
"#;

fn host_with_pool() -> World {
    let world = World::new();
    world.add_device(SimDevice::igb(PHYSICAL));
    world
}

/// The only virtual function.
fn virtual_function(world: &World) -> Sbdf {
    let is_virtual = |function: &Sbdf| world.describe(*function).unwrap().physical_function.is_some();
    world.functions().unwrap().into_iter().find(is_virtual).unwrap()
}

#[tokio::test]
async fn function_that_goes_back_to_its_pool_leaves_the_address_of_its_guest_behind() {
    let world = host_with_pool();

    with_toolstack(&world, POOL, async |mut events, _| {
        let first = start(&world, "addressed", 1).await?;
        first.connected().await?;
        let function = virtual_function(&world);
        let given = VirtualFunctionAddress { mac: Some(MAC), vlan: 7 };
        assert_eq!(world.virtual_function_address(function), given);
        end(&world, &first, &mut events).await?;
        assert_eq!(world.virtual_function_address(function), VirtualFunctionAddress::default());

        let next = start(&world, "plain", 2).await?;
        next.connected().await?;
        assert_eq!(world.virtual_function_address(function), VirtualFunctionAddress::default());
        end(&world, &next, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn address_that_a_daemon_before_left_is_taken_away_before_a_guest_gets_the_function() {
    let world = host_with_pool();
    world.set_virtual_functions(PHYSICAL, 1).unwrap();
    let function = virtual_function(&world);
    world.set_virtual_function_address(function, Some(MAC), Some(7)).unwrap();

    with_toolstack(&world, POOL, async |mut events, _| {
        let guest = start(&world, "plain", 1).await?;
        guest.connected().await?;
        assert_eq!(world.virtual_function_address(function), VirtualFunctionAddress::default());
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn address_that_the_driver_does_not_take_away_reaches_only_a_guest_with_one_of_its_own() {
    let world = host_with_pool();

    with_toolstack(&world, POOL, async |mut events, toolstack| {
        let first = start(&world, "addressed", 1).await?;
        first.connected().await?;
        let function = virtual_function(&world);
        // When the guest ends, and when it is asked for by one without an address.
        world.fail("set_virtual_function_address", 1, Errno::EINVAL);
        end(&world, &first, &mut events).await?;
        let given = VirtualFunctionAddress { mac: Some(MAC), vlan: 0 };
        assert_eq!(world.virtual_function_address(function), given);
        let plain = start(&world, "someone", 2).await?;
        world.fail("set_virtual_function_address", 1, Errno::EINVAL);
        world.fail("set_virtual_function_address", 3, Errno::EINVAL);
        let request = Request::new(function, Device::new(function));
        let who = Guest { domain: plain.domain(), name: "someone".to_owned() };
        let patience = std::time::Duration::from_secs(5);
        let refused = toolstack.attach_by_hand(&who, vec![request], patience).await.unwrap_err().to_string();
        assert!(refused.contains("still has the MAC address") && refused.contains("a mac and a vlan"), "{refused}");

        let next = start(&world, "addressed", 3).await?;
        next.connected().await?;
        let given = VirtualFunctionAddress { mac: Some(MAC), vlan: 7 };
        assert_eq!(world.virtual_function_address(function), given);
        end(&world, &next, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn address_that_cannot_be_given_is_not_left_and_the_function_comes_without_a_fault_later() {
    let world = host_with_pool();

    with_toolstack(&world, POOL, async |mut events, _| {
        // Both halves are tried. The first one takes effect.
        world.fail("set_virtual_function_address", 2, Errno::EBUSY);
        let guest = start(&world, "addressed", 1).await?;
        let refused = events.recv().await;
        assert!(matches!(refused, Some(xenpcid::supervisor::Event::Refused(_))), "{refused:?}");
        let function = virtual_function(&world);
        assert_eq!(world.virtual_function_address(function), VirtualFunctionAddress::default());
        guest.connected().await?;
        let given = VirtualFunctionAddress { mac: Some(MAC), vlan: 7 };
        assert_eq!(world.virtual_function_address(function), given);
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn physical_function_without_addresses_is_no_obstacle_where_none_is_declared() {
    let world = host_with_pool();

    with_toolstack(&world, POOL, async |mut events, _| {
        // As of an NVMe controller: no network interface.
        world.fail("set_virtual_function_address", 1, Errno::ENODEV);
        world.fail("set_virtual_function_address", 2, Errno::ENODEV);
        let guest = start(&world, "plain", 1).await?;
        guest.connected().await?;
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}
