//! What the called workload's own proxy says: its mutual TLS mode and its policies, in the order in which it asks them.

use std::net::SocketAddr;

use config::model::{FilterChain, HttpFilterKind, Listener, NetworkFilter, RbacAction, RbacFilter};
use decide::{connection_verdict, request_verdict};

use super::mesh::Mesh;
use super::proxy::Proxy;
use super::report::Verdict;
use super::request::{Caller, Request};
use super::source::Source;
use crate::Error;

/// Mode and verdict of the proxy at an address.
pub struct Answer {
    /// `STRICT`, `PERMISSIVE`, `DISABLE`; empty without a proxy.
    pub mode: &'static str,
    /// Its verdict.
    pub verdict: Verdict,
}

/// Asks the proxy of the workload at `address`.
///
/// # Errors
/// Its configuration is one that it would refuse.
pub fn ask<'w>(
    mesh: &dyn Mesh<'w>,
    address: SocketAddr,
    caller: &Caller,
    request: &Request,
) -> Result<Answer, Error> {
    let Some(proxy) = mesh.proxy_at(address.ip())? else {
        return Ok(no_proxy(
            "no workload of the mesh has the address: it is called without a policy of this mesh",
        ));
    };
    let Some(listener) = proxy.listener_at(address) else {
        let reason = "the workload's proxy has no listener for this port: no Service leads to it";
        let verdict = denied(reason.to_owned(), Vec::new());
        return Ok(Answer { mode: "", verdict });
    };
    let mode = mode(listener);
    let secured = caller.identity.is_some();
    let Some(chain) = chain(listener, secured) else {
        let reason = if secured {
            "the caller speaks mutual TLS and the workload takes plaintext only (PeerAuthentication DISABLE)"
        } else {
            "the caller speaks plaintext and the workload takes mutual TLS only (PeerAuthentication STRICT)"
        };
        return Ok(Answer { mode, verdict: denied(reason.to_owned(), Vec::new()) });
    };
    let judge = Judge { mesh, proxy: &proxy, caller, request };
    Ok(Answer { mode, verdict: judge.chain(chain)? })
}

fn no_proxy(reason: &str) -> Answer {
    Answer { mode: "", verdict: Verdict { allowed: true, reason: reason.to_owned(), sources: Vec::new() } }
}

fn denied(reason: String, sources: Vec<Source>) -> Verdict {
    Verdict { allowed: false, reason, sources }
}

fn chains(listener: &Listener) -> impl Iterator<Item = &FilterChain> {
    listener.filter_chains.iter().chain(listener.default_filter_chain.as_deref())
}

fn chain(listener: &Listener, secured: bool) -> Option<&FilterChain> {
    chains(listener).find(|chain| chain.tls.is_some() == secured)
}

fn mode(listener: &Listener) -> &'static str {
    match (chain(listener, true).is_some(), chain(listener, false).is_some()) {
        (true, true) => "PERMISSIVE",
        (true, false) => "STRICT",
        (false, _) => "DISABLE",
    }
}

/// One request before the filters of one proxy.
struct Judge<'a, 'w> {
    mesh: &'a dyn Mesh<'w>,
    proxy: &'a Proxy<'w>,
    caller: &'a Caller,
    request: &'a Request,
}

impl Judge<'_, '_> {
    fn chain(&self, chain: &FilterChain) -> Result<Verdict, Error> {
        let mut allowed_by = None;
        for filter in &chain.filters {
            match filter {
                NetworkFilter::Rbac(rbac) => match self.rules(rbac, None) {
                    Ok(by) => allowed_by = by.or(allowed_by),
                    Err(verdict) => return Ok(verdict),
                },
                NetworkFilter::Http(manager) => {
                    let seen = match self.request.canonical(manager) {
                        Ok(seen) => seen,
                        Err((status, reason)) => {
                            return Ok(denied(format!("{status}: {reason}"), Vec::new()));
                        }
                    };
                    for filter in &manager.http_filters {
                        let HttpFilterKind::Rbac(rbac) = &filter.kind else { continue };
                        match self.rules(rbac, Some(&seen)) {
                            Ok(by) => allowed_by = by.or(allowed_by),
                            Err(verdict) => return Ok(verdict),
                        }
                    }
                }
                NetworkFilter::Tcp(_) | NetworkFilter::Stats(_) => {}
            }
        }
        let sources = allowed_by.iter().filter_map(|name| self.policy(name)).collect();
        let reason = match &allowed_by {
            Some(name) => format!("allowed by {name}"),
            None => "no ALLOW policy selects the workload and no DENY policy matches".to_owned(),
        };
        Ok(Verdict { allowed: true, reason, sources })
    }

    /// The policy that allowed it, if one had to; or the denial.
    fn rules(&self, filter: &RbacFilter, request: Option<&Request>) -> Result<Option<String>, Verdict> {
        let Some(rules) = &filter.rules else { return Ok(None) };
        let verdict = match request {
            Some(request) => request_verdict(rules, self.caller, request),
            None => connection_verdict(rules, self.caller),
        };
        if verdict.allowed {
            return Ok(verdict.policy.filter(|_| verdict.action == RbacAction::Allow).map(str::to_owned));
        }
        let who = self.caller.identity.as_deref().unwrap_or("an unauthenticated caller");
        let what = format!(
            "{who}, {} {}",
            self.request.method,
            String::from_utf8_lossy(decide::RequestView::path(self.request))
        );
        Err(match verdict.policy {
            Some(name) => {
                denied(format!("denied by {name} ({what})"), self.policy(name).into_iter().collect())
            }
            None => denied(format!("no ALLOW policy allows {what}"), self.mesh.candidates(self.proxy, rules)),
        })
    }

    /// The policy and rule behind a name in the configuration.
    fn policy(&self, name: &str) -> Option<Source> {
        Some(self.mesh.place(&translate::source::policy(name)?))
    }
}
