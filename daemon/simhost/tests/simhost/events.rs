//! Event channels and grants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pcifront_shim::{Connection, SharedPage};
use xenpcid_address::DomainId;
use xenpcid_host::{Errno, Wakeup};
use xenpcid_simhost::{DomainOptions, GuestRing, World};

/// How long a wait lasts that is to time out. Nothing depends on its length.
const SOON: Option<Duration> = Some(Duration::from_millis(5));
/// How long a wait lasts that must not time out.
const LONG: Duration = Duration::from_secs(60);

async fn guest() -> (World, DomainId, GuestRing) {
    let world = World::new();
    let domain = world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap();
    let ring = world.open_ring(domain, Arc::new(SharedPage::zeroed())).unwrap();
    (world, domain, ring)
}

#[tokio::test]
async fn port_is_bound_with_an_event_since_one_may_have_been_lost() {
    let (world, domain, ring) = guest().await;
    ring.ring().unwrap();

    let port = world.host().events.bind(domain, ring.port).unwrap();

    assert_eq!(port.wait(Some(LONG)).unwrap(), Wakeup::Event);
    assert_eq!(port.wait(SOON).unwrap(), Wakeup::TimedOut);
}

#[tokio::test]
async fn masked_port_keeps_one_event_until_it_is_unmasked() {
    let (world, domain, ring) = guest().await;
    let port = world.host().events.bind(domain, ring.port).unwrap();
    port.wait(Some(LONG)).unwrap();

    ring.ring().unwrap();
    ring.ring().unwrap();
    let masked = port.wait(SOON).unwrap();
    port.unmask().unwrap();
    let unmasked = port.wait(Some(LONG)).unwrap();
    port.unmask().unwrap();
    let nothing = port.wait(SOON).unwrap();

    assert_eq!((masked, unmasked, nothing), (Wakeup::TimedOut, Wakeup::Event, Wakeup::TimedOut));
}

#[tokio::test]
async fn event_of_an_unmasked_port_comes_once_and_masks_it() {
    let (world, domain, ring) = guest().await;
    let port = world.host().events.bind(domain, ring.port).unwrap();
    port.wait(Some(LONG)).unwrap();
    port.unmask().unwrap();
    port.unmask().unwrap();

    ring.ring().unwrap();

    assert_eq!(port.wait(Some(LONG)).unwrap(), Wakeup::Event);
    assert_eq!(port.wait(SOON).unwrap(), Wakeup::TimedOut);
}

#[tokio::test]
async fn wake_ends_a_wait_of_another_thread_and_comes_before_an_event() {
    let (world, domain, ring) = guest().await;
    let port = world.host().events.bind(domain, ring.port).unwrap();
    port.wake().unwrap();
    port.wake().unwrap();
    assert_eq!((port.wait(Some(LONG)).unwrap(), port.wait(Some(LONG)).unwrap()), (Wakeup::Woken, Wakeup::Event));

    let waiting = port.clone();
    let thread = std::thread::spawn(move || waiting.wait(None).unwrap());
    port.wake().unwrap();

    assert_eq!(thread.join().unwrap(), Wakeup::Woken);
}

#[tokio::test]
async fn notification_of_the_guest_is_a_latch() {
    let (world, domain, ring) = guest().await;
    let port = world.host().events.bind(domain, ring.port).unwrap();
    port.notify().unwrap();
    port.notify().unwrap();

    let start = Instant::now();
    ring.wait(start + LONG).unwrap();
    ring.wait(start).unwrap();
    let waiting = ring.clone();
    let thread = std::thread::spawn(move || waiting.wait(start + LONG).unwrap());
    port.notify().unwrap();

    thread.join().unwrap();
    assert!(start.elapsed() < LONG, "each wait but the one that had no time ended by a notification");
}

#[tokio::test]
async fn port_can_be_bound_once_at_a_time_and_again_after_it_was_dropped() {
    let (world, domain, ring) = guest().await;
    let events = world.host().events;
    let errno = |domain, port| events.bind(domain, port).err().map(|error| error.errno);

    let port = events.bind(domain, ring.port).unwrap();
    let twice = errno(domain, ring.port);
    assert!(ring.is_bound());
    drop(port);
    let unbound = ring.is_bound();
    ring.ring().unwrap();

    assert_eq!((twice, unbound), (Some(Errno::EINVAL), false));
    assert_eq!(errno(domain, ring.port + 1), Some(Errno::EINVAL), "never opened");
    assert_eq!(errno(DomainId(99), ring.port), Some(Errno::ESRCH));
    assert_eq!(errno(domain, ring.port), None);
}

#[tokio::test]
async fn dead_guest_notifies_nobody_and_dom0_does_not_notice() {
    let (world, domain, ring) = guest().await;
    let port = world.host().events.bind(domain, ring.port).unwrap();
    port.wait(Some(LONG)).unwrap();
    port.unmask().unwrap();

    world.destroy_domain(domain).await.unwrap();

    assert!(ring.ring().is_err());
    assert!(ring.wait(Instant::now() + LONG).is_err());
    port.notify().unwrap();
    assert_eq!(port.wait(SOON).unwrap(), Wakeup::TimedOut);
}

#[tokio::test]
async fn grant_is_the_guests_own_page() {
    let (world, domain, ring) = guest().await;
    let mapped = world.host().grants.map(domain, ring.reference).unwrap();

    let flags = |page: &SharedPage| page.words().next().unwrap().load(std::sync::atomic::Ordering::SeqCst);
    ring.page().words().next().unwrap().store(0x2, std::sync::atomic::Ordering::SeqCst);

    assert_eq!(flags(mapped.page()), 0x2);
}

#[tokio::test]
async fn grant_that_does_not_exist_is_einval() {
    let (world, domain, ring) = guest().await;
    let grants = world.host().grants;
    let errno = |domain, reference| grants.map(domain, reference).err().map(|error| error.errno);

    assert_eq!(errno(domain, ring.reference + 1), Some(Errno::EINVAL));
    assert_eq!(errno(DomainId(99), ring.reference), Some(Errno::EINVAL));
    world.close_ring(domain, &ring);
    assert_eq!(errno(domain, ring.reference), Some(Errno::EINVAL));
}

#[tokio::test]
async fn page_of_a_dying_guest_is_not_mapped_again() {
    let (world, domain, ring) = guest().await;
    let grants = world.host().grants;
    let _held = grants.map(domain, ring.reference).unwrap();

    world.destroy_domain(domain).await.unwrap();

    assert_eq!(grants.map(domain, ring.reference).err().map(|error| error.errno), Some(Errno::EINVAL));
}

#[tokio::test]
async fn page_that_is_mapped_outlives_the_guests_end_of_it() {
    let (world, domain, ring) = guest().await;
    let mapped = world.host().grants.map(domain, ring.reference).unwrap();

    world.close_ring(domain, &ring);
    let leaks = world.leaks();
    drop(mapped);

    assert_eq!(leaks, [format!("grant {} of domain {domain} is mapped", ring.reference)]);
    assert_eq!(world.leaks(), Vec::<String>::new());
}
