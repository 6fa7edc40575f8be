//! Where the demo lives: a folder with its configuration, keys and logs, and addresses that are free on this machine.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::Error;

/// The example, as it stands in `examples/payments`. Its addresses are rewritten to a free block.
const FILES: &[(&str, &str)] = &[
    ("mesh.yaml", include_str!("../../../../examples/payments/mesh.yaml")),
    (
        "production/payment-service.yaml",
        include_str!("../../../../examples/payments/production/payment-service.yaml"),
    ),
    (
        "production/payment-subsets.yaml",
        include_str!("../../../../examples/payments/production/payment-subsets.yaml"),
    ),
    ("production/services.yaml", include_str!("../../../../examples/payments/production/services.yaml")),
    ("production/workloads.yaml", include_str!("../../../../examples/payments/production/workloads.yaml")),
    ("production/mutual-tls.yaml", include_str!("../../../../examples/payments/production/mutual-tls.yaml")),
    (
        "production/payment-callers.yaml",
        include_str!("../../../../examples/payments/production/payment-callers.yaml"),
    ),
    ("outside/stranger.yaml", include_str!("../../../../examples/payments/outside/stranger.yaml")),
];

/// The first ejection of a host in the demo's own copy of the example, which says 30 s.
pub const EJECTION_SECONDS: u64 = 2;

/// Ports tried for the services; the example's own first.
const PORTS: &[u16] = &[8080, 18080, 28080];

/// The folder and the addresses of a demo.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    block: u8,
    /// Port of the services and of the programs.
    pub port: u16,
    // Removed with its content when the demo ends.
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// Finds free addresses and writes the example's YAML.
    ///
    /// # Errors
    /// No free addresses, or a folder that cannot be written.
    pub fn prepare(folder: Option<PathBuf>) -> Result<Place, Error> {
        let (block, port) = free_addresses()?;
        let temporary = match folder {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("tulle-demo-").tempdir()?),
        };
        let folder = match (&folder, &temporary) {
            (Some(given), _) => given.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => return Err("no folder for the demo".into()),
        };
        let place = Place { folder, block, port, _temporary: temporary };
        for (name, text) in FILES {
            let path = place.config().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(&path, place.rewrite(text))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        for folder in [place.data(), place.logs(), place.folder.join("sidecars")] {
            std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        Ok(place)
    }

    fn rewrite(&self, text: &str) -> String {
        let ejection = format!("interval: 1s, baseEjectionTime: {EJECTION_SECONDS}s");
        text.replace("interval: 30s, baseEjectionTime: 30s", &ejection)
            .replace("127.10.", &format!("127.{}.", self.block))
            .replace("8080", &self.port.to_string())
    }

    /// The directory that `tulled` watches.
    pub fn config(&self) -> PathBuf {
        self.folder.join("mesh")
    }

    /// `tulled`'s data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Folder of the log files.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Where a workload's program records what it executes.
    pub fn record(&self, workload: &str) -> PathBuf {
        self.logs().join(format!("{workload}-program.record"))
    }

    /// A sidecar's own folder.
    pub fn sidecar(&self, workload: &str) -> PathBuf {
        self.folder.join("sidecars").join(workload)
    }

    /// A workload's own address.
    pub fn workload(&self, host: u8) -> IpAddr {
        IpAddr::from([127, self.block, 0, host])
    }

    /// Where a workload's program listens.
    pub fn program(&self, host: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, self.block, 2, host]), self.port)
    }

    /// The loopback address of a Service of the example.
    pub fn service(&self, host: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, self.block, 1, host]), self.port)
    }

    /// Replaces text in a file of the configuration, as an editor would: the new file is renamed over the old one.
    /// Returns the number of the first changed line.
    ///
    /// # Errors
    /// The text is not there, or the file cannot be written.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<usize, Error> {
        let path = self.config().join(file);
        let old = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let at = old.find(from).ok_or_else(|| format!("{}: \"{from}\" is not there", path.display()))?;
        self.write(file, &old.replace(from, to))?;
        Ok(old[..at].matches('\n').count() + 1)
    }

    /// Writes a file of the configuration.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.config().join(file);
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// Reads a file of the configuration, and removes it.
    ///
    /// # Errors
    /// The file is not there.
    pub fn remove(&self, file: &str) -> Result<String, Error> {
        let path = self.config().join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        std::fs::remove_file(&path)?;
        Ok(text)
    }
}

/// A second octet and a port of which every address that the demo binds is free.
fn free_addresses() -> Result<(u8, u16), Error> {
    let mut last = None;
    for &port in PORTS {
        for block in 10..=19 {
            let taken = [
                ([127, block, 0, 10], port),
                ([127, block, 1, 1], port),
                ([127, block, 2, 10], port),
                ([127, block, 0, 10], crate::bootstrap::ADMIN_PORT),
            ]
            .into_iter()
            .find_map(|address| {
                TcpListener::bind(SocketAddr::from(address)).err().map(|error| (address, error))
            });
            match taken {
                None => return Ok((block, port)),
                Some((address, error)) => last = Some(format!("{}: {error}", SocketAddr::from(address))),
            }
        }
    }
    Err(format!("no free loopback addresses for the demo; the last one tried: {}", last.unwrap_or_default())
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_names_its_line_and_a_missing_text_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::prepare(Some(folder.path().to_owned())).unwrap();
        let line = place.edit(
            "production/payment-service.yaml",
            "subset: stable}, weight: 95",
            "subset: stable}, wieght: 95",
        );
        assert_eq!(line.unwrap(), 21);
        let rule = std::fs::read_to_string(place.config().join("production/payment-service.yaml")).unwrap();
        assert!(rule.contains("baseEjectionTime: 2s") && !rule.contains("30s"), "{rule}");
        assert!(place.edit("production/payment-service.yaml", "weight: 95", "weight: 1").is_err());
        assert!(
            std::fs::read_to_string(place.config().join("production/services.yaml"))
                .unwrap()
                .contains(&place.service(1).ip().to_string())
        );
    }
}
