//! `xenpci denied`: what guests tried and did not get.

use xenpcid_control::{Client, Denied, ListDenied, Operation, Outcome};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, DENIED};
use crate::table::{Cell, table};

const COLUMNS: [&str; 9] =
    ["DEVICE", "GUEST", "AT", "REGISTER", "BITS", "OUTCOME", "#COUNT", "LAST VALUE", "LAST TIME"];

pub fn run(places: &Places, arguments: &arguments::Denied) -> Result<(), Failure> {
    let mut client = Client::connect(&places.socket)?;
    let reply = client.call(&ListDenied { device: arguments.device })?;
    if arguments.json {
        return screen::json(&reply);
    }
    let mut text = match reply.denied.as_slice() {
        [] => "Guests got all that they tried.\n".to_owned(),
        denied => table(COLUMNS, &denied.iter().map(row).collect::<Vec<_>>()),
    };
    if reply.uncounted > 0 {
        text.push_str(&format!("And {} accesses to more registers than are counted.\n", reply.uncounted));
    }
    screen::print(&text)
}

fn row(entry: &Denied) -> [Cell; 9] {
    let digits = usize::from(entry.width) * 2;
    let hexadecimal = |value: u32| format!("{value:0digits$x}");
    let operation = match entry.operation {
        Operation::Read => "read",
        Operation::Write => "write",
    };
    let outcome = match entry.outcome {
        Outcome::Discarded => Cell::from(format!("{operation} discarded")),
        Outcome::Denied => Cell::from(format!("{operation} denied")).styled(DENIED),
    };
    [
        Cell::from(entry.device.to_string()).styled(ADDRESS),
        screen::guest(&entry.guest).into(),
        format!("{:03x}", entry.offset).into(),
        register(entry).into(),
        hexadecimal(entry.bits).into(),
        outcome,
        entry.count.to_string().into(),
        Cell::optional((entry.operation == Operation::Write).then(|| hexadecimal(entry.last_value))),
        screen::time(entry.last_time).into(),
    ]
}

/// Its name, and that of a capability that its name does not tell.
fn register(entry: &Denied) -> String {
    let capability =
        entry.capability.as_deref().map(|name| if entry.hidden { format!("{name}, hidden") } else { name.to_owned() });
    match (entry.register.as_deref(), capability) {
        (Some(name), Some(capability)) if entry.hidden => format!("{name} ({capability})"),
        (Some(name), _) => name.to_owned(),
        (None, Some(capability)) => format!("in {capability}"),
        (None, None) => "-".to_owned(),
    }
}
