//! What the commands print, and how they end.

use std::fs;
use std::path::Path;

use clap::Parser;
use pcifront_shim_instrument::cli::{Arguments, Command};
use pcifront_shim_instrument::recording::Recording;
use pcifront_shim_instrument::{Error, commands};

use crate::guest::{FUNCTION, HOST, parse, under_the_daemon};

/// Runs each of these command lines, one connection each.
fn outputs<const N: usize>(lines: [&'static str; N]) -> [String; N] {
    under_the_daemon(move |guest| {
        lines.map(|line| {
            let (out, result) = guest.run(&line.split(' ').collect::<Vec<_>>());
            result.unwrap();
            out
        })
    })
}

fn compare(arguments: &[&str]) -> (String, Result<(), Error>) {
    let Command::Compare(arguments) = parse(arguments).command else { panic!("it is compare") };
    let mut out = Vec::new();
    let result = commands::compare::run(&arguments, &mut out);
    (String::from_utf8(out).unwrap(), result)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn probe_shows_identity_bars_and_capabilities_and_restores_what_it_sized() {
    let [before, text, json, after] = outputs(["dump", "probe", "probe --json --function 00:00.0", "dump"]);
    for part in [
        "00:00.0 0200: 8086:10d3 (rev 00)\n",
        "\tBAR 0: memory at 0xfeb80000, 32-bit, non-prefetchable, size=128K\n",
        "\tBAR 2: I/O ports at 0xc060, size=32\n",
        "\tCapability: [c8] pm: PCI Power Management Interface\n",
        "\tCapability: [a0] msix: MSI-X\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["vendor"], 0x8086);
    assert_eq!(json[0]["bars"][0]["size"], 0x2_0000);
    assert_eq!(before, after);
}

#[test]
fn dump_has_every_byte_that_the_guest_may_see() {
    let [text] = outputs(["dump"]);
    let recording = Recording::parse(&text).unwrap();
    let space = recording.space(FUNCTION).unwrap();
    assert_eq!((space.config.len(), &space.config[..4]), (4096, &[0x86, 0x80, 0xd3, 0x10][..]));
}

#[test]
fn function_that_is_not_there_is_an_error_that_names_it() {
    let error = under_the_daemon(|guest| guest.run(&["dump", "--function", "00:1f.0"]).1).unwrap_err();
    assert!(error.to_string().contains("0000:00:1f.0"), "{error}");
}

#[test]
fn random_accesses_leave_addresses_and_decoding_of_the_hardware_alone() {
    let (before, after) = under_the_daemon(|guest| {
        let before = guest.world.hardware(HOST);
        guest.run(&["random", "--seed", "1", "--count", "3000"]).1.unwrap();
        (before, guest.world.hardware(HOST))
    });
    assert_eq!(before[0x10..0x28], after[0x10..0x28]);
    assert_eq!(before[0x04] & 3, after[0x04] & 3);
    assert_eq!(before[0xd2..0xe0], after[0xd2..0xe0]);
}

#[test]
fn random_with_the_same_seed_makes_the_same_requests_and_compares_without_a_difference() {
    let recordings = ["random --seed 5 --count 2000"; 2].map(|line| {
        let [text] = outputs([line]);
        text
    });
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| write(folder.path(), name, &recordings[usize::from(name == "b")]));
    assert_eq!(Recording::parse(&recordings[0]).unwrap().exchanges.len(), 2000);
    let (out, result) = compare(&["compare", &a, &b]);
    result.unwrap();
    assert!(out.ends_with("2000 accesses; 0 differences, 0 of them listed, 0 not; 0 unused entries\n"), "{out}");
}

#[test]
fn compare_fails_unless_each_difference_is_listed_and_names_unused_entries() {
    let folder = tempfile::tempdir().unwrap();
    let [dump] = outputs(["dump"]);
    let recording = |answer: &str| format!("{dump}\nR 00:00.0 2 0xcc -> {answer}\nW 00:00.0 2 0xcc 0x0 -> success\n");
    let a = write(folder.path(), "a", &recording("0x8"));
    let b = write(folder.path(), "b", &recording("access_denied (-3)"));
    let entry =
        |place: &str| format!("[[difference]]\nwhere = \"{place}\"\noperation = \"read\"\nreason = \"because\"\n");
    let listed = write(folder.path(), "listed.toml", &entry("pm.pmcsr"));
    let more = write(folder.path(), "more.toml", &(entry("pm.*") + &entry("status")));

    let (out, result) = compare(&["compare", &a, &b]);
    assert!(out.contains("00:00.0 pm.pmcsr read: value | access_denied"), "{out}");
    assert!(out.contains("NOT LISTED"), "{out}");
    assert!(matches!(result, Err(Error::Failed(text)) if text == "1 of 1 differences are not listed"));

    let (out, result) = compare(&["compare", &a, &b, "--expect", &listed]);
    result.unwrap();
    assert!(out.contains("listed: because"), "{out}");

    let (out, result) = compare(&["compare", &a, &b, "--expect", &more, "--json"]);
    result.unwrap();
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["differences"][0]["reason"], "because");
    assert_eq!(report["unused"][0], "status read: because");
}

#[test]
fn recording_of_random_accesses_replays_without_a_difference_and_another_answer_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let [random] = outputs(["random --seed 9 --count 500"]);
    let same = write(folder.path(), "same", &random);
    // A value that no register has.
    let last = random.trim_end().lines().rev().find(|line| line.starts_with("R ") && line.contains("-> 0x")).unwrap();
    let (access, _) = last.split_once(" -> ").unwrap();
    let other = write(folder.path(), "other", &format!("{access} -> 0x12345\n"));
    let recorded = folder.path().join("recorded");
    let record = recorded.display().to_string();
    let (same, other) = under_the_daemon(move |guest| {
        (guest.run(&["replay", &same, "--record", &record]), guest.run(&["replay", &other]))
    });

    same.1.unwrap();
    assert_eq!(same.0, "500 accesses, 0 answered otherwise\n");
    assert_eq!(Recording::read(&recorded).unwrap().exchanges, Recording::parse(&random).unwrap().exchanges);
    assert!(other.0.starts_with(&format!("access 1: {access} -> 0x12345 | 0x")), "{}", other.0);
    assert!(matches!(other.1, Err(Error::Failed(_))));
}

#[test]
fn trace_of_a_linux_guest_with_xen_pciback_is_replayed_to_the_function() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/pcifront-6.1-e1000e.trace");
    let (out, result) = under_the_daemon(move |guest| guest.run(&["replay", trace, "--function", "00:00.0"]));
    // The daemon hides what xen-pciback shows: the guest's Command register starts with decoding off.
    assert!(matches!(result, Err(Error::Failed(_))));
    assert!(out.contains("R 00:00.0 2 0x4 -> 0x103 | 0x"), "{out}");
    assert!(out.contains("\n170 accesses, "), "{out}");
}

#[test]
fn bench_measures_as_many_reads_as_it_is_told() {
    let [text, json] = outputs(["bench --count 50", "bench --count 20 --register 0x3c:1 --json"]);
    assert!(text.starts_with("50 reads of 4 bytes at 0x0 of 00:00.0, "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["nanoseconds"]["count"], &json["offset"]), (&20.into(), &0x3c.into()));
    assert!(json["nanoseconds"]["min"].as_u64() <= json["nanoseconds"]["p50"].as_u64());
    assert!(json["nanoseconds"]["p99_9"].as_u64() <= json["nanoseconds"]["max"].as_u64());
}

#[test]
fn bench_of_a_register_that_is_refused_is_an_error() {
    let error = under_the_daemon(|guest| guest.run(&["bench", "--register", "0x1000:4"]).1).unwrap_err();
    assert!(error.to_string().contains("invalid_offset (-2)"), "{error}");
}

#[test]
fn backend_survives_torture_and_the_hardware_keeps_addresses_and_decoding() {
    let ((out, result), before, after) = under_the_daemon(|guest| {
        let before = guest.world.hardware(HOST);
        let ended = guest.run(&["torture", "--seed", "1", "--count", "2000", "--json"]);
        (ended, before, guest.world.hardware(HOST))
    });
    result.unwrap();
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let answers = report["answers"].as_object().unwrap();
    assert_eq!(answers.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 2000);
    for answer in ["conf_read: success (0)", "conf_write: success (0)", "enable_msix: success (0)"] {
        assert!(answers.contains_key(answer), "{answer}: {out}");
    }
    for attack in ["changed under way", "active bit toggled", "after a flood of notifications", "unknown operation"] {
        assert!(answers.keys().any(|answer| answer.starts_with(attack)), "{attack}: {out}");
    }
    assert_eq!(before[0x10..0x28], after[0x10..0x28]);
    assert_eq!(before[0x04] & 3, after[0x04] & 3);
    assert_eq!((after[0xa3] & 0x80, after[0xd2] & 1), (0, 0), "interrupts are off again");
}

#[test]
fn session_runs_its_commands_over_one_connection_up_to_the_first_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let script = write(
        folder.path(),
        "script",
        "# the first two are done\nprobe --function 00:00.0\n\n  bench --count 3\ndump --function 00:1f.0\nbench --count 4\n",
    );
    let Command::Session(session) = parse(&["session", &script]).command else { panic!("it is session") };
    let lines = commands::session::read(&session).unwrap();
    let (out, result) = under_the_daemon(move |guest| {
        let mut out = Vec::new();
        let result = guest.with_bus(|bus| commands::session::run(&lines, bus, &mut out));
        (String::from_utf8(out).unwrap(), result)
    });
    assert!(out.starts_with("00:00.0 0200: ") && out.contains("\n3 reads of ") && !out.contains("4 reads"), "{out}");
    assert!(matches!(result, Err(Error::NoFunction(_))));
}

#[test]
fn session_with_a_wrong_command_is_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    for (line, problem) in [("prob", "prob"), ("session x", "session"), ("random", "--seed")] {
        let script = write(folder.path(), "script", &format!("probe\n{line}\n"));
        let Command::Session(session) = parse(&["session", &script]).command else { panic!("it is session") };
        let error = commands::session::read(&session).unwrap_err().to_string();
        assert!(error.contains("line 2: ") && error.contains(problem), "{error}");
    }
}

#[test]
fn file_that_cannot_be_used_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let empty = write(folder.path(), "empty", "");
    assert!(compare(&["compare", "/nonexistent/a", &empty]).1.unwrap_err().to_string().contains("/nonexistent/a"));
    assert!(compare(&["compare", &empty, &empty]).1.unwrap_err().to_string().starts_with(&empty));
}

#[test]
fn command_lines_that_make_no_sense_are_refused() {
    for line in [
        "",
        "probe --function 00:00",
        "random",
        "compare a",
        "--timeout 0 probe",
        "dump --timeout -1",
        "torture --seed 1",
        "torture --seed 1 --count 1 --seconds 1",
        "bench --register 0x0:3",
        "bench --count 0",
    ] {
        let arguments = ["pcifront-shim"].into_iter().chain(line.split_whitespace());
        assert!(Arguments::try_parse_from(arguments).is_err(), "{line}");
    }
}
