//! The command line of `tulled`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The control plane of Tulle: reads the mesh's configuration, tells every proxy its part, signs certificates.
#[derive(Debug, Parser)]
#[command(name = "tulled", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    /// Run the control plane.
    #[command(flatten)]
    pub serve: Option<Serve>,
    /// Or do one of these and end.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Running the control plane.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Directory of the mesh's configuration: DIR/<namespace>/**.yaml, and DIR/mesh.yaml.
    #[arg(long, value_name = "DIR")]
    pub config: PathBuf,
    /// Directory of the root certificate, its key and the join tokens; made where it is missing.
    #[arg(long, value_name = "DIR", env = "TULLE_DATA", default_value_os_t = default_data())]
    pub data: PathBuf,
    /// Namespace of resources in files at the top of the configuration that name none.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    pub default_namespace: String,
    /// Address of xDS and certificates over TLS. Port 0 takes a free one; DATA/addresses.json tells which.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:15012")]
    pub xds_address: SocketAddr,
    /// Address of /metrics, /ready, /version and /debug.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15014")]
    pub monitoring_address: SocketAddr,
    /// Address of xDS and certificates without TLS, on loopback (Istio's port is 15010). Off unless given.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    pub plaintext_xds_address: Option<SocketAddr>,
    /// What to log, such as `info` or `info,control=debug`.
    #[arg(long, value_name = "FILTER", env = "TULLE_LOG", default_value = "info")]
    pub log: String,
    /// Shape of the log lines.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Shape of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What ends by itself.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The certificate authority.
    #[command(subcommand)]
    Ca(CaCommand),
}

/// Join tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token with which one workload joins the mesh, and print it. Whoever holds it can be that workload.
    Create {
        /// The data directory of `tulled`.
        #[arg(long, value_name = "DIR", env = "TULLE_DATA", default_value_os_t = default_data())]
        data: PathBuf,
        /// Namespace of the workload.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: String,
        /// Service account of the workload.
        #[arg(long, value_name = "ACCOUNT")]
        service_account: String,
        /// How long it is good.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// How many certificates it is good for; as many as its holder wants unless given.
        #[arg(long, value_name = "N")]
        max_uses: Option<u64>,
    },
}

/// The certificate authority.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make the root certificate, or take in an authority of your own, without starting the control plane.
    Init {
        /// Folder of your own authority, by Istio's names: ca-cert.pem and ca-key.pem sign, cert-chain.pem leads to
        /// root-cert.pem. Nothing is made then.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// The data directory of `tulled`.
        #[arg(long, value_name = "DIR", env = "TULLE_DATA", default_value_os_t = default_data())]
        data: PathBuf,
        /// Trust domain, as `trustDomain` in mesh.yaml.
        #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
        trust_domain: String,
    },
    /// Show the root certificate: trust domain, validity, pin. Never the key.
    Show {
        /// The data directory of `tulled`.
        #[arg(long, value_name = "DIR", env = "TULLE_DATA", default_value_os_t = default_data())]
        data: PathBuf,
        /// Shape of the answer.
        #[arg(short, long, value_enum, default_value_t)]
        output: LogFormat,
    },
}

/// `$XDG_STATE_HOME/tulle`, `$HOME/.local/state/tulle`, or `/var/lib/tulle` for a user without a home.
fn default_data() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map_or_else(|| PathBuf::from("/var/lib/tulle"), |state| state.join("tulle"))
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|error| format!("{error}; expected an address such as 127.0.0.1:15010"))?;
    if !address.ip().is_loopback() {
        return Err("without TLS only a loopback address such as 127.0.0.1:15010 is allowed".to_owned());
    }
    Ok(address)
}

fn duration(text: &str) -> Result<Duration, String> {
    api::Duration::parse(text).map(api::Duration::as_std).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("tulled").chain(words.split_whitespace()))
    }

    #[test]
    fn it_serves_or_does_one_thing() {
        Options::command().debug_assert();
        let serve = parse("--config mesh --data d").unwrap().serve.unwrap();
        assert_eq!(
            (serve.xds_address.port(), serve.monitoring_address.to_string().as_str()),
            (15012, "127.0.0.1:15014")
        );
        assert!(serve.plaintext_xds_address.is_none());
        let create = parse("token create --data d --namespace n --service-account a --ttl 90m").unwrap();
        let Some(Command::Token(TokenCommand::Create { ttl, max_uses, .. })) = create.command else {
            panic!("{create:?}");
        };
        assert_eq!((ttl, max_uses), (Duration::from_secs(5400), None));
        assert!(parse("ca show --data d -o json").is_ok());
    }

    #[test]
    fn what_cannot_be_is_refused_and_not_ignored() {
        for words in [
            "",
            "--data d",
            "--config mesh --kubeconfig k",
            "--config mesh --in-cluster",
            "--config mesh --plaintext-xds-address 0.0.0.0:15010",
            "--config mesh --xds-address nonsense",
            "token create --namespace n --service-account a --ttl soon",
            "token create --namespace n",
        ] {
            assert!(parse(words).is_err(), "{words:?} was accepted");
        }
    }
}
