//! The workloads whose proxies are connected, for names that a user gives.

use serde_json::Value;

use crate::control::{self, Address};
use crate::{Error, output};

/// The connected `tulle-proxy`s, `namespace/workload`.
///
/// # Errors
/// `tulled` cannot be asked.
pub fn proxies(address: Address) -> Result<Vec<String>, Error> {
    let all = control::ask(address, "/debug/connections")?;
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    let ours = all.as_array().into_iter().flatten().filter(|it| it["program"] == "tulle-proxy");
    let mut names: Vec<String> =
        ours.map(|it| format!("{}/{}", text(it, "namespace"), text(it, "workload"))).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// What a user means by a name, `NAMESPACE/`, `NAMESPACE/NAME` or `NAME`, if some connected proxy has it.
///
/// # Errors
/// None has; the text offers those with a similar name.
pub fn selection(address: Address, named: &str) -> Result<String, Error> {
    let all = proxies(address)?;
    let matches = |name: &&String| match named.split_once('/') {
        Some((_, "")) => name.starts_with(named),
        Some(_) => name.as_str() == named,
        None => name.rsplit('/').next() == Some(named),
    };
    if all.iter().any(|name| matches(&name)) {
        return Ok(named.to_owned());
    }
    let near = output::nearest(named, all.iter().map(String::as_str));
    Err(format!("no tulle-proxy of {named} is connected{near}").into())
}

/// The one connected proxy that a user means by a name.
///
/// # Errors
/// None or several have it.
pub fn one(address: Address, named: &str) -> Result<String, Error> {
    let all = proxies(address)?;
    let matches = |name: &&String| match named.contains('/') {
        true => name.as_str() == named,
        false => name.rsplit('/').next() == Some(named),
    };
    let found: Vec<&String> = all.iter().filter(matches).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let near = output::nearest(named, all.iter().map(String::as_str));
            Err(format!("no tulle-proxy of {named} is connected{near}").into())
        }
        several => {
            let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(format!("{named} is in several namespaces; say which: {}", names.join(", ")).into())
        }
    }
}
