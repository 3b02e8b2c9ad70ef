//! `xenpci plan` and `xenpci apply`: what is declared, compared with what is.

use std::time::Instant;

use xenpcid_control::{Apply, Client, GetPlan, Plan};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::operation::{self, UNDER_WAY};
use crate::screen::{self, GOOD, WRONG, hanging, paint};

pub fn plan(places: &Places, arguments: &arguments::Plan) -> Result<(), Failure> {
    let reply = Client::connect(&places.socket)?.call(&GetPlan {})?;
    if arguments.json {
        return screen::json(&reply.plan);
    }
    screen::print(&text(&reply.plan, "All is as declared.\n"))
}

pub fn apply(places: &Places, arguments: &arguments::Apply) -> Result<(), Failure> {
    let call = Apply { wait: !arguments.no_wait };
    let plan = operation::run(places, &call, arguments.timeout.map(|timeout| Instant::now() + timeout))?;
    match &plan {
        _ if arguments.json => screen::json(&plan)?,
        Some(plan) => screen::print(&text(plan, "All was as declared.\n"))?,
        None => screen::print(UNDER_WAY)?,
    }
    if plan.is_none_or(|plan| plan.problems.is_empty()) { Ok(()) } else { Err(Failure::Reported) }
}

fn text(plan: &Plan, nothing: &str) -> String {
    let width = screen::width();
    let line = |bullet: String, text: &str| hanging(&bullet, 2, &screen::harmless(text), width);
    let actions = plan.actions.iter().map(|action| line(paint(GOOD, "+ "), &action.text));
    let problems = plan.problems.iter().map(|problem| line(paint(WRONG, "! "), problem));
    let lines: String = actions.chain(problems).collect();
    if lines.is_empty() { nothing.to_owned() } else { lines }
}
