//! The command line itself.

use std::process::Command;

use crate::{recordings, xenpci};

#[test]
fn each_command_has_help_with_an_example() {
    let looking = ["status", "tree", "watch", "interrupts", "why", "doctor", "plan"];
    let moving = ["apply", "attach", "detach", "claim", "release"];
    let registers = ["explain", "denied", "learn", "suggest", "policies", "check"];
    for command in looking.into_iter().chain(moving).chain(registers) {
        let help = xenpci([command, "--help"]).good();
        assert!(help.contains(&format!("\n  xenpci {command}")) && help.contains("Example"), "{help}");
    }
}

#[test]
fn help_says_what_exit_codes_mean() {
    let help = xenpci(["--help"]).good();
    assert!(
        help.contains(
            "Exit status: 0 done; 1 it did not work; 2 the command line is wrong; 3 xenpcid cannot be reached."
        )
    );
}

#[test]
fn wrong_command_lines_end_with_2() {
    for arguments in [
        &["explain"][..],
        &["explain", "zz"],
        &["explain", "03:00.0", "--map", "--json"],
        &["learn", "03:00.0"],
        &["learn", "03:00.0", "--for", "a while"],
        &["attach", "web1"],
        &["attach", "web1", "03:00.0", "--slot", "20"],
        &["attach", "web1", "03:00.0", "04:00.0", "--slot", "1"],
        &["attach", "web1", "03:00.0", "--allow", "everything"],
        &["attach", "web1", "03:00.0", "--timeout", "soon"],
        &["apply", "--no-wait", "--timeout", "1"],
        &["claim"],
        &["why"],
        &["nothing"],
        &[],
    ] {
        assert_eq!(xenpci(arguments).status, 2, "{arguments:?}");
    }
    let address = xenpci(["explain", "zz"]);
    assert!(address.stderr.contains("write SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal"), "{}", address.stderr);
}

#[test]
fn commands_that_need_the_daemon_end_with_3_without_it() {
    let looking = [&["status"][..], &["tree"], &["watch"], &["interrupts"], &["why", "03:00.0"], &["plan"]];
    let moving = [&["apply"][..], &["attach", "web1", "03:00.0"], &["detach", "web1", "03:00.0"]];
    let others = [&["claim", "03:00.0"][..], &["release", "03:00.0"], &["denied"], &["suggest", "03:00.0"]];
    let learn = [&["learn", "03:00.0", "--for", "1s"][..]];
    for arguments in looking.iter().chain(&moving).chain(&others).chain(&learn) {
        let error = xenpci(*arguments).bad(3);
        assert_eq!(
            error,
            "xenpci: there is no control socket /nowhere/control: is xenpcid running? Start it with `systemctl start \
             xenpcid`, or name its socket with --socket\n"
        );
    }
}

#[test]
fn colours_are_for_terminals_or_when_asked_for_and_change_nothing_else() {
    for form in [None, Some("--map")] {
        let arguments = ["explain", "--from", "igb.txt"].into_iter().chain(form);
        let run = |variable: &str| {
            let output = Command::new(env!("CARGO_BIN_EXE_xenpci"))
                .current_dir(recordings())
                .args(arguments.clone())
                .args(["--policies", "/nowhere"])
                .env(variable, "1")
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let (coloured, plain) = (run("CLICOLOR_FORCE"), run("NO_COLOR"));
        assert!(coloured.contains("\x1b[") && !plain.contains('\x1b'), "{form:?}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    }
}
