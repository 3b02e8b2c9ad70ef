//! What is logged, and what is not. Whoever listens is one for the whole process, since the threads that block log, too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::fmt::Debug;
use std::sync::{Mutex, Once, PoisonError};

use harness::{E1000, backend_becomes, end, start, with_toolstack};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Record};
use tracing::{Event, Id, Level, Metadata, Subscriber};
use xenpcid_address::Sbdf;
use xenpcid_simhost::{SimDevice, World};
use xenstore_protocol::XenbusState;

const PHYSICAL: Sbdf = Sbdf::from_devfn(0, 3, 0);

/// What was said at the level of warnings and above.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The next line with this in it is not survived by who says it.
static DEADLY: Mutex<Option<&'static str>> = Mutex::new(None);
static LISTENING: Once = Once::new();

struct Listener;

/// An event in words: its message and its fields.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("xenpcid")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let deadly = DEADLY.lock().unwrap_or_else(PoisonError::into_inner).take_if(|text| line.0.contains(*text));
        assert!(deadly.is_none(), "{}", line.0);
        if *event.metadata().level() <= Level::WARN {
            SAID.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn listen() {
    LISTENING.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

/// Warnings and errors so far with this in them.
fn said(text: &str) -> Vec<String> {
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.iter().filter(|line| line.contains(text)).cloned().collect()
}

#[tokio::test]
async fn action_that_panics_keeps_nothing_busy_and_the_work_goes_on() {
    listen();
    let world = World::new();
    world.add_device(SimDevice::igb(PHYSICAL));
    let toml = "[[pool]]\nname = \"lan\"\nphysical-function = { bdf = \"0000:03:00.0\" }\ncount = 1\n\n\
        [[domain]]\nname = \"web1\"\ndevices = [{ from = \"lan\" }]\n";
    *DEADLY.lock().unwrap() = Some("virtual functions created");

    with_toolstack(&world, toml, async |mut events, toolstack| {
        let progress = toolstack.settled().await;
        assert_eq!(said("an action ended badly").len(), 1, "{:?}", said(""));
        // The functions were made before, and nothing is left to be tried again.
        assert_eq!(progress.failures, []);
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn guest_that_reboots_with_a_device_that_cannot_be_reset_is_nothing_to_warn_of() {
    listen();
    let world = World::new();
    world.add_device(SimDevice::e1000(E1000));
    let toml = "[[domain]]\nname = \"web7\"\ndevices = [{ bdf = \"0000:00:07.0\", reset = \"best-effort\" }]\n";

    with_toolstack(&world, toml, async |mut events, _| {
        let guest = start(&world, "web7", 7).await?;
        guest.connected().await?;
        guest.close().await?;
        // The next frontend, should there be one, is expected.
        backend_becomes(&world, guest.domain(), XenbusState::Initialised).await?;
        end(&world, &guest, &mut events).await
    })
    .await;

    assert!(said("frontend").is_empty(), "{:?}", said("frontend"));
}
