//! `xenpci watch`: what happens, as it happens.

use xenpcid_control::{Client, Event, EventKind, Watch};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, FAINT, GOOD, GUARDED, WRONG, paint};

pub fn run(places: &Places, arguments: &arguments::Watch) -> Result<(), Failure> {
    let mut client = Client::connect(&places.socket)?;
    for reply in client.call_more(&Watch {})? {
        // The first reply only says that the watch has begun.
        let Some(event) = reply?.event else { continue };
        screen::print(&if arguments.json { serde_json::to_string(&event)? + "\n" } else { line(&event) })?;
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let (kind, style) = match event.kind {
        EventKind::Found => ("found", GOOD),
        EventKind::Missing => ("missing", WRONG),
        EventKind::Claimed => ("claimed", GUARDED),
        EventKind::Released => ("released", GUARDED),
        EventKind::Reset => ("reset", FAINT),
        EventKind::Attached => ("attached", GOOD),
        EventKind::Detached => ("detached", GUARDED),
        EventKind::Held => ("held", FAINT),
        EventKind::Resumed => ("resumed", FAINT),
        EventKind::Configured => ("configured", GUARDED),
        EventKind::Failed => ("failed", WRONG),
        EventKind::Broken => ("broken", WRONG),
        EventKind::Lost => ("lost", WRONG),
    };
    let device = event.device.map_or_else(|| "-".to_owned(), |device| device.to_string());
    let domain = event.domain.as_ref().map_or_else(|| "-".to_owned(), screen::guest);
    format!(
        "{}  {}  {}  {domain:<12}  {}\n",
        screen::time(event.time),
        paint(style, format_args!("{kind:<10}")),
        paint(ADDRESS, format_args!("{device:<12}")),
        screen::harmless(&event.text)
    )
}
