//! Log set-up of a process: one subscriber, to standard error.

use tracing_subscriber::EnvFilter;

/// Shape of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the process's log subscriber. `filter` is a `tracing` filter such as `info` or `info,proxy::tls=debug`.
///
/// # Errors
/// The filter does not parse (it is named), or a subscriber is installed already.
pub fn init(filter: &str, format: Format) -> Result<(), String> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| format!("log filter \"{filter}\": {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Format::Json => builder.json().try_init(),
    }
    .map_err(|error| error.to_string())
}
