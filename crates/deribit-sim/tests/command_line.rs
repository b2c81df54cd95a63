//! The command line of the real binary.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::process::{Command, Output};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deribit-sim"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap()
}

fn text(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(arguments, environment);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_help_and_completions_are_printed() {
    let version = text(&["--version"], &[]);
    assert!(version.starts_with(concat!("deribit-sim ", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(text(&["--help"], &[]).contains("Examples:\n  deribit-sim --rate"));
    assert!(text(&["completions", "bash"], &[]).contains("--print-config"));
}

#[test]
fn printed_values_name_the_flag_or_variable_that_set_them() {
    let environment = [("KSTREAM__MARKET__RATE", "7"), ("KSTREAM__MARKET__SEED", "8")];
    let printed = text(&["--print-config", "--rate", "9"], &environment);
    for line in ["rate = 9.0  # from --rate", "seed = 8  # from KSTREAM__MARKET__SEED"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!printed.contains("client_secret = \"simulated\""), "{printed}");
}

#[test]
fn an_invalid_configuration_is_printed_before_the_error() {
    let output = run(&["--print-config"], &[("KSTREAM__LIMITS__IDLE", "0s")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stdout).contains("idle = \"0s\"  # from KSTREAM__LIMITS__IDLE"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("limits.idle: invalid value 0s"));
}

#[test]
fn usage_errors_exit_with_78() {
    for arguments in [&["--no-such-flag"][..], &["--rate", "fast"], &["no-such-command"]] {
        assert_eq!(run(arguments, &[]).status.code(), Some(78), "{arguments:?}");
    }
}
