//! What the running xenpcid says.

use xenpcid_control::{
    Action, Client, ClientError, Device, DeviceState, Examine, Finding as Reason, GetPlan, GetStatus, ListDevices,
    Plan, Refusal,
};

use super::Finding;
use crate::failure;
use crate::status::title;

pub fn judge(mut client: Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = ask(&mut client, &mut findings) {
        findings.push(Finding::complaint(failure::chain(&error)));
    }
    findings
}

fn ask(client: &mut Client, findings: &mut Vec<Finding>) -> Result<(), ClientError> {
    findings.push(version(&client.call(&GetStatus {})?.version));
    for device in client.call(&ListDevices {})?.devices {
        let wrong = wrong(client, &device)?;
        let is_good = wrong.is_empty();
        findings.extend(wrong);
        findings.extend(is_good.then(|| Finding::good(format!("{} is {}", title(&device), name(device.state)))));
    }
    match client.call(&GetPlan {}) {
        Ok(reply) => findings.extend(plan(reply.plan)),
        // The files were looked at already.
        Err(ClientError::Refused(Refusal::ConfigurationInvalid { .. })) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn version(running: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if running == own {
        return Finding::good(format!("xenpcid {running} is running"));
    }
    Finding::note(
        format!("xenpcid {running} is running, and xenpci is {own}: they may not understand each other"),
        "`systemctl restart xenpcid`",
    )
}

/// What is wrong with a device: what the daemon has seen of it, and, unless a guest has it, what would keep it from being
/// attached.
fn wrong(client: &mut Client, device: &Device) -> Result<Vec<Finding>, ClientError> {
    let of_device = |text: &str| Finding::complaint(format!("{}: {text}", title(device)));
    let mut findings: Vec<Finding> = match (&device.problem, device.state) {
        (Some(problem), _) => vec![of_device(problem)],
        (None, state @ (DeviceState::Missing | DeviceState::Broken)) => vec![of_device(name(state))],
        (None, _) => Vec::new(),
    };
    let Some(address) = device.address.filter(|_| device.guest.is_none()) else { return Ok(findings) };
    match client.call(&Examine { device: address.to_string(), domain: None }) {
        Ok(reply) => {
            let against = reply.findings.into_iter().filter(|reason| !reason.allowed);
            findings.extend(against.map(|Reason { message, key, .. }| Finding {
                remedy: key.map(|key| format!("or override it: allow = [\"{key}\"] in its entry of the configuration")),
                ..of_device(&message)
            }));
        }
        // That is about this device; there are others.
        Err(ClientError::Refused(refusal)) => findings.push(of_device(&refusal.to_string())),
        Err(error) => return Err(error),
    }
    Ok(findings)
}

fn plan(plan: Plan) -> impl Iterator<Item = Finding> {
    let asked_for = |action: Action| {
        Finding::problem(format!("the configuration asks for this: {}", action.text), "`xenpci apply`")
    };
    plan.problems.into_iter().map(Finding::complaint).chain(plan.actions.into_iter().map(asked_for))
}

const fn name(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Missing => "missing",
        DeviceState::Unclaimed => "dom0's, and can be claimed",
        DeviceState::Claiming => "being claimed",
        DeviceState::Quarantined => "ready for a guest",
        DeviceState::Assigned => "assigned",
        DeviceState::Broken => "broken",
    }
}
