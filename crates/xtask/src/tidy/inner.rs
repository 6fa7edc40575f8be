//! Arrows inside `proxy` and `control`: a module may name only modules to its right in the order of a request or of a
//! change. Leaves may be named by everybody and name none.

use std::path::{Path, PathBuf};

use super::Faults;

/// Modules of a room, outermost first; each may import those after it. The last list are leaves.
struct Order {
    room: &'static str,
    line: &'static [&'static str],
    leaves: &'static [&'static str],
}

const ORDERS: &[Order] = &[
    Order {
        room: "proxy",
        line: &["host", "admin", "listen", "tcp", "filter", "route", "upstream", "state", "identity", "tls"],
        leaves: &["telemetry", "http"],
    },
    Order {
        room: "control",
        line: &["run", "serve", "push", "store", "source", "csr", "token", "ca"],
        leaves: &[],
    },
];

/// Reads `crate::MODULE` in every file of the two rooms.
pub fn check(root: &Path, files: &[PathBuf]) -> Faults {
    let mut faults = Vec::new();
    for order in ORDERS {
        let folder = format!("crates/{}/src", order.room);
        for file in files
            .iter()
            .filter(|file| file.starts_with(&folder) && file.extension().is_some_and(|e| e == "rs"))
        {
            let relative = file.strip_prefix(&folder)?;
            if relative.to_string_lossy().ends_with("tests.rs") {
                continue;
            }
            let first =
                relative.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
            let module = first.unwrap_or_default().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(root.join(file))?;
            faults.extend(up_arrows(order, &module, &text).into_iter().map(|(line, to)| {
                format!(
                    "{}:{line}: {module} imports {to}, against the order {}",
                    file.display(),
                    order.line.join(" → ")
                )
            }));
        }
    }
    Ok(faults)
}

fn up_arrows<'a>(order: &Order, module: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let place = |name: &str| order.line.iter().position(|listed| *listed == name);
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for rest in line.split("crate::").skip(1) {
            let to = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            let up = match (place(module), place(to)) {
                (Some(from), Some(target)) => target < from,
                (None, Some(_)) => order.leaves.contains(&module),
                (None, None) => module != to && module == "http" && order.leaves.contains(&to),
                _ => false,
            };
            if up {
                found.push((number + 1, to));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_back_up_is_found_and_one_down_is_not() {
        let order = &ORDERS[0];
        assert_eq!(up_arrows(order, "upstream", "use crate::filter::Chain;\n"), [(1, "filter")]);
        assert!(up_arrows(order, "filter", "use crate::upstream::Pool;\n// crate::host\n").is_empty());
        assert_eq!(up_arrows(order, "telemetry", "\nfn f() { crate::listen::x() }\n"), [(2, "listen")]);
        assert!(up_arrows(order, "upstream", "#[cfg(test)]\nuse crate::filter::Chain;\n").is_empty());
    }
}
