//! The command line: roles and errands, with help that teaches.
//!
//! In: arguments. Out: one `Command`. Never here: what a command does.
#![expect(clippy::doc_markdown, reason = "doc comments here are what --help prints")]

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Tidemark: smart-meter ingestion and utility billing.
///
/// One executable. A role (`coap-gateway`, `ingest`, `console`) runs until SIGTERM and can run
/// alone, many times, on many machines; `up` runs all of them on one machine with embedded
/// defaults. An errand (`migrate`, `bill run`, `decode`, …) does one thing and says in one line
/// what it did.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, arg_required_else_help = true, after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Settings (TOML). Without it every setting has its default; the variables CLICKHOUSE_URL,
    /// DATABASE_URL and MQTT_URL go before the file.
    #[arg(long, global = true, value_name = "FILE", env = "TIDEMARK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// How the log on standard error looks.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidemark up --data ./data                          everything on one machine
  tidemark --config data/tidemark.toml bill run --cycle 2026-09
  tidemark --config data/tidemark.toml bill explain --account A0001 --cycle 2026-09
  tidemark decode FEFEFEFE6810180212202000008116901F00000200002C000200002C0000000000000000FF8516
  echo '{\"service\":{\"from\":\"2026-03-01\",\"until\":\"2026-04-01\"},\"usage\":\"23\"}' \\
    | tidemark rate --schedule deploy/schedules/jingmen-household-2011.toml --ndjson

Exit codes: 0 done; 1 failed (the last line of standard error says why); 3 done, and some accounts
wait on the outsort list (bill run only).";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: private ClickHouse engine, Postgres and broker, then
    /// gateway, ingest and console, each restarted when it dies.
    Up(UpArgs),
    /// Role: answer NB-IoT meters (CoAP) and carry their uplinks to the broker.
    CoapGateway,
    /// Role: take uplinks from the broker, decode, judge, store, acknowledge.
    Ingest,
    /// Role: serve the operations console.
    Console,
    /// Bring both databases to the schema of this version.
    Migrate,
    /// The registry: who is supplied where, with which meter.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Billing runs and bills.
    #[command(subcommand)]
    Bill(BillCommand),
    /// Decode one frame, or a stream of frames, without any database.
    Decode(DecodeArgs),
    /// Rate billing determinants under a schedule file, without any database.
    Rate(RateArgs),
    /// Process dead letters again, after a codec or the registry was corrected.
    Replay(ReplayArgs),
    /// Publish platform events from files (ChirpStack v3/v4, The Things Stack) to the broker.
    ReplayEvents(ReplayEventsArgs),
    /// Show the books of ingest: received = stored + duplicate + rejected, and what waits.
    Books(BooksArgs),
    /// Read the settings and say what they come to, or what is wrong with them.
    CheckConfig,
    /// Run one embedded service in the foreground.
    #[command(subcommand)]
    Embedded(EmbeddedCommand),
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Folder for all data, logs and the generated `tidemark.toml`.
    #[arg(long, default_value = "tidemark-data")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Import a registry file (JSON or TOML). Importing twice changes nothing.
    Import {
        /// The file; `docs/registry-file.md` describes it.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BillCommand {
    /// Bill a cycle. May be killed and repeated at will: no account is billed twice, none is
    /// forgotten. Exit code 3 when accounts were held.
    Run(BillRunArgs),
    /// List the bills of a cycle, or the report of its last run.
    Show(BillShowArgs),
    /// Show one bill's working, line by line, down to the reads.
    Explain(BillRef),
}

#[derive(Debug, Args)]
pub(crate) struct BillRunArgs {
    /// The cycle, as the books name it: 2026-09.
    #[arg(long)]
    pub(crate) cycle: String,
    /// Only these books; without it every book that has the cycle.
    #[arg(long = "book", value_name = "BOOK")]
    pub(crate) books: Vec<String>,
    /// Work everything out, write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take reads stored until this instant; by default now, or what the interrupted run took.
    #[arg(long, value_name = "RFC3339")]
    pub(crate) cutoff: Option<DateTime<Utc>>,
    /// The report as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BillShowArgs {
    /// The cycle.
    #[arg(long)]
    pub(crate) cycle: String,
    /// Only these books.
    #[arg(long = "book", value_name = "BOOK")]
    pub(crate) books: Vec<String>,
    /// One JSON object per bill.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BillRef {
    /// The account number.
    #[arg(long)]
    pub(crate) account: String,
    /// The cycle.
    #[arg(long)]
    pub(crate) cycle: String,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// The frame, in hexadecimal.
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson")]
    pub(crate) hex: Option<String>,
    /// One JSON request per line on standard input, one result per line on standard output:
    /// {"hex":"…","profile":"…","key":"…","f_port":1}. A bad line gets an error and the next one
    /// its turn.
    #[arg(long)]
    pub(crate) ndjson: bool,
    /// Device profile; without it the frame itself is looked at.
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// Key of the meter, 16 bytes in hexadecimal.
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Option<String>,
    /// LoRaWAN port the payload came on.
    #[arg(long, value_name = "N")]
    pub(crate) f_port: Option<u8>,
    /// LoRaWAN network session key, to check the MIC of a PHYPayload.
    #[arg(long, value_name = "HEX")]
    pub(crate) nwk_s_key: Option<String>,
    /// LoRaWAN application session key, to open a PHYPayload.
    #[arg(long, value_name = "HEX")]
    pub(crate) app_s_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RateArgs {
    /// The rate schedule (TOML); `docs/rate-schedules.md` describes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) schedule: PathBuf,
    /// One JSON object of billing determinants per line on standard input, one JSON object of
    /// charge lines per line on standard output.
    #[arg(long)]
    pub(crate) ndjson: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Only dead letters with this reason (`unknown_device`, `checksum_mismatch`, …).
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayEventsArgs {
    /// Event files: a platform's event as JSON, or {"integration": …, "event": …}.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BooksArgs {
    /// As one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EmbeddedCommand {
    /// The ClickHouse engine behind ClickHouse's own HTTP interface.
    Clickhouse(EmbeddedArgs),
    /// A private Postgres cluster.
    Postgres(EmbeddedArgs),
    /// A private mosquitto.
    Broker(EmbeddedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EmbeddedArgs {
    /// Its data directory; created when missing, reused when there.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// TCP port on 127.0.0.1; 0 chooses a free one and keeps it for the next start.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_frame_and_a_stream_are_not_given_together() {
        assert!(Cli::try_parse_from(["tidemark", "decode", "--ndjson", "68"]).is_err());
        assert!(Cli::try_parse_from(["tidemark", "decode"]).is_err());
        assert!(Cli::try_parse_from(["tidemark", "decode", "68"]).is_ok());
    }
}
