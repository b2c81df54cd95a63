//! The command line that every service has.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::Failure;
use crate::config::{self, AdminConfig, ServiceConfig};
use crate::http;

/// The flags of every service; one with more flags flattens this into its own `clap::Parser`.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// TOML file laid over the compiled-in defaults
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Load and check the configuration, start nothing
    #[arg(long)]
    pub check_config: bool,
}

/// The command line of a service that adds nothing to it.
#[derive(Debug, Parser)]
struct Plain {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Option<PlainCommand>,
}

#[derive(Debug, Subcommand)]
enum PlainCommand {
    /// Ask the running service whether it is ready; exit 0 if so (for container health checks)
    Health,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation<C> {
    /// Run the service.
    Run(C),
    /// Exit with success: the command needed no running service.
    Exit,
}

/// Parses the command line, loads the configuration, and does what needs no service.
///
/// # Errors
/// [`Failure::Config`] for arguments or configuration; [`Failure::Other`] if `health` finds the service not ready.
pub fn load<C: ServiceConfig>(version: &'static str, about: &'static str) -> Result<Invocation<C>, Failure> {
    let Some(args) = parse::<Plain>(C::SERVICE.name(), version, about)? else { return Ok(Invocation::Exit) };
    let config: C = config::load(args.common.config.as_deref())?;
    if matches!(args.command, Some(PlainCommand::Health)) {
        return health(config.admin()).map(|()| Invocation::Exit);
    }
    if args.common.check_config {
        return Ok(Invocation::Exit);
    }
    Ok(Invocation::Run(config))
}

/// Parses the process's arguments; `None` if `--help` or `--version` was asked for and shown.
///
/// # Errors
/// [`Failure::Config`] with clap's message.
#[expect(clippy::print_stdout, reason = "--help and --version go to standard output")]
pub fn parse<P: Parser>(
    name: &'static str,
    version: &'static str,
    about: &'static str,
) -> Result<Option<P>, Failure> {
    let command = P::command().name(name).version(version).about(about);
    match command.try_get_matches().and_then(|matches| P::from_arg_matches(&matches)) {
        Ok(args) => Ok(Some(args)),
        Err(error) if error.use_stderr() => Err(Failure::Config(error.to_string().trim_end().to_owned())),
        Err(shown) => {
            print!("{shown}");
            Ok(None)
        }
    }
}

/// Asks the admin endpoint of a running service whether it is ready.
///
/// # Errors
/// [`Failure::Other`] with what it answered.
pub fn health(admin: &AdminConfig) -> Result<(), Failure> {
    let mut address = admin.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ask = async {
        let answer = http::client()?.get(format!("http://{address}/ready")).send().await?;
        if answer.status().is_success() {
            return Ok(());
        }
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        Err(anyhow::anyhow!("not ready: {status}: {}", body.trim()))
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    Ok(runtime.block_on(ask)?)
}
