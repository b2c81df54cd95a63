//! The command line that every service has.

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::builder::EnumValueParser;
use clap::{Arg, ArgMatches, Args, Command, Parser, Subcommand, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::Failure;
use crate::config::{AdminConfig, Effective, Flag, ServiceConfig, process_environment};
use crate::http;

/// The texts of a service's command line.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The version without the git revision.
    pub version: &'static str,
    /// One sentence about the service.
    pub about: &'static str,
    /// Command lines for `--help`, one a line.
    pub examples: &'static str,
}

/// The flags of every service. A service with more flags flattens this into its own `clap::Parser`.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// TOML file that overrides the compiled-in defaults
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Load and check the configuration, then exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the effective configuration as TOML, with the origin of each value and without secrets, then exit
    #[arg(long)]
    pub print_config: bool,
}

impl CommonArgs {
    /// Loads the configuration, and does what `--print-config` and `--check-config` ask for. `flags` override all other sources.
    ///
    /// # Errors
    /// [`Failure::Config`]; with `--print-config`, after the values were printed if they could be merged.
    pub fn load<C: ServiceConfig>(&self, flags: &[Flag]) -> Result<Invocation<C>, Failure> {
        let effective = Effective::merge(C::SERVICE, self.config.as_deref(), process_environment(), flags)?;
        let checked = effective.check::<C>();
        if self.print_config {
            print(&effective.to_toml(&checked.as_ref().map(C::derived).unwrap_or_default()))?;
        }
        let config = checked?;
        Ok(if self.print_config || self.check_config { Invocation::Exit } else { Invocation::Run(config) })
    }
}

/// The command line of a service without flags of its own.
#[derive(Debug, Parser)]
struct PlainArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Option<PlainCommand>,
}

#[derive(Debug, Subcommand)]
enum PlainCommand {
    /// Ask the running service whether it is ready; exit 0 if it is (for container health checks)
    Health,
}

/// The purpose of the invocation.
#[derive(Debug)]
pub enum Invocation<C> {
    /// Run the service with this configuration.
    Run(C),
    /// Exit with success: the command needed no running service.
    Exit,
}

/// Parses the command line, loads the configuration, and does everything that needs no service.
///
/// # Errors
/// [`Failure::Config`] for arguments or configuration; [`Failure::Other`] if `health` finds the service not ready.
pub fn load<C: ServiceConfig>(program: &Program) -> Result<Invocation<C>, Failure> {
    let Some(args) = parse_plain(C::SERVICE.name(), program)? else { return Ok(Invocation::Exit) };
    match (args.common.load::<C>(&[])?, args.command) {
        (Invocation::Run(config), Some(PlainCommand::Health)) => {
            health(config.admin()).map(|()| Invocation::Exit)
        }
        (invocation, _) => Ok(invocation),
    }
}

/// Not generic and not inlined, so that it is compiled for size.
#[inline(never)]
fn parse_plain(name: &'static str, program: &Program) -> Result<Option<PlainArgs>, Failure> {
    parse::<PlainArgs>(name, program)
}

/// Parses the arguments of the process; `None` after `--help`, `--version` and `completions`, which print.
///
/// # Errors
/// [`Failure::Config`] with clap's message.
pub fn parse<P: Parser>(name: &'static str, program: &Program) -> Result<Option<P>, Failure> {
    match parse_from(P::command(), name, program, std::env::args_os().collect())? {
        Parsed::Matches(matches) => P::from_arg_matches(&matches).map(Some).map_err(|error| usage(&error)),
        Parsed::Text(text) => print(&text).map(|()| None),
    }
}

/// Writes to standard output. A reader that has closed the pipe is no error.
///
/// # Errors
/// [`Failure::Other`] for any other error of the operating system.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(anyhow::Error::from(error).into()),
        _ => Ok(()),
    }
}

enum Parsed {
    Matches(ArgMatches),
    Text(String),
}

/// Not generic and not inlined, so that it is compiled for size.
#[inline(never)]
fn parse_from(
    command: Command,
    name: &'static str,
    program: &Program,
    arguments: Vec<OsString>,
) -> Result<Parsed, Failure> {
    let mut command = with_texts(command, name, program);
    match command.try_get_matches_from_mut(arguments) {
        Err(error) if error.use_stderr() => Err(usage(&error)),
        Err(help_or_version) => Ok(Parsed::Text(help_or_version.to_string())),
        Ok(matches) => {
            let completions = matches.subcommand_matches(COMPLETIONS);
            Ok(match completions.and_then(|completions| completions.get_one::<Shell>(SHELL)) {
                Some(shell) => Parsed::Text(completion_script(*shell, name, &mut command)),
                None => Parsed::Matches(matches),
            })
        }
    }
}

fn usage(error: &clap::Error) -> Failure {
    Failure::Config(error.to_string().trim_end().to_owned())
}

const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";

/// The end of every `--help`.
const AFTER_HELP: &str = "\
Configuration:
  The compiled-in defaults, then --config FILE, then the environment: KSTREAM__LOG__FILTER=debug sets log.filter.
  --print-config shows the result.

Exit codes:
  0   stopped as requested
  1   failed
  69  a server was not available within startup_deadline
  70  internal error
  78  bad arguments or configuration";

fn with_texts(command: Command, name: &'static str, program: &Program) -> Command {
    let shell = Arg::new(SHELL).required(true).value_parser(EnumValueParser::<Shell>::new());
    let completions = Command::new(COMPLETIONS)
        .about("Print a completion script: source <(… completions bash)")
        .arg(shell.value_name("SHELL").help("The shell to complete commands in"));
    let examples: String = program.examples.lines().map(|line| format!("  {line}\n")).collect();
    command
        .name(name)
        .version(version(program.version))
        .about(program.about)
        .after_help(format!("Examples:\n{examples}\n{AFTER_HELP}"))
        .subcommand(completions)
}

/// Shells with completions. Scripts for others would cost more bytes than they are worth.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn completion_script(shell: Shell, name: &str, command: &mut Command) -> String {
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, command, name, &mut script),
        Shell::Zsh => generate(Zsh, command, name, &mut script),
        Shell::Fish => generate(Fish, command, name, &mut script),
    }
    String::from_utf8(script).expect("names and help texts are UTF-8")
}

/// The version with the git revision, where the build knew it.
fn version(version: &'static str) -> &'static str {
    static WITH_REVISION: OnceLock<String> = OnceLock::new();
    WITH_REVISION.get_or_init(|| with_revision(version, option_env!("KSTREAM_REVISION")))
}

fn with_revision(version: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| version.to_owned(), |revision| format!("{version} ({revision})"))
}

/// Asks the admin endpoint of a running service whether it is ready.
///
/// # Errors
/// [`Failure::Other`] with the response.
#[inline(never)]
pub fn health(admin: &AdminConfig) -> Result<(), Failure> {
    let mut address = admin.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ask = async {
        let response = http::client()?.get(format!("http://{address}/ready")).send().await?;
        if response.status().is_success() {
            return Ok(());
        }
        let (status, body) = (response.status(), response.text().await.unwrap_or_default());
        Err(anyhow::anyhow!("not ready: {status}: {}", body.trim()))
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    Ok(runtime.block_on(ask)?)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    const PROGRAM: Program = Program {
        version: "1.2.3",
        about: "Does a thing",
        examples: "thing --config thing.toml\nthing health",
    };

    fn parsed(arguments: &[&str]) -> Result<Parsed, Failure> {
        let arguments = std::iter::once(&"thing").chain(arguments).map(OsString::from).collect();
        parse_from(PlainArgs::command(), "thing", &PROGRAM, arguments)
    }

    fn text(arguments: &[&str]) -> String {
        match parsed(arguments) {
            Ok(Parsed::Text(text)) => text,
            Ok(Parsed::Matches(matches)) => panic!("{matches:?}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    #[test]
    fn the_version_has_the_revision_if_the_build_knew_it() {
        assert_eq!(with_revision("1.2.3", Some("0123456789ab")), "1.2.3 (0123456789ab)");
        assert_eq!(with_revision("1.2.3", None), "1.2.3");
        assert!(text(&["--version"]).starts_with("thing 1.2.3"));
    }

    #[test]
    fn help_has_examples_and_exit_codes() {
        let help = text(&["--help"]);
        for part in ["Does a thing", "  thing --config thing.toml\n  thing health\n", "78  bad arguments"] {
            assert!(help.contains(part), "{part}\n{help}");
        }
    }

    #[test]
    fn every_shell_gets_a_script_that_completes_flags_and_commands() {
        for shell in ["bash", "zsh", "fish"] {
            let script = text(&["completions", shell]);
            for word in ["thing", "print-config", "health"] {
                assert!(script.contains(word), "{shell}: {word}\n{script}");
            }
        }
    }

    #[test]
    fn usage_errors_are_configuration_errors_that_name_the_argument() {
        for (arguments, word) in [
            (&["--no-such-flag"][..], "--no-such-flag"),
            (&["completions", "cobol"], "cobol"),
            (&["--config"], "--config <FILE>"),
        ] {
            let failure = parsed(arguments).err().unwrap();
            assert_eq!(failure.code(), 78);
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }

    #[test]
    fn flags_and_commands_are_parsed() {
        let Ok(Parsed::Matches(matches)) = parsed(&["--print-config", "health", "--config", "x.toml"]) else {
            panic!("no arguments")
        };
        let arguments = PlainArgs::from_arg_matches(&matches).unwrap();
        assert!(arguments.common.print_config && !arguments.common.check_config);
        assert_eq!(arguments.common.config, Some("x.toml".into()));
        assert!(matches!(arguments.command, Some(PlainCommand::Health)));
    }
}
