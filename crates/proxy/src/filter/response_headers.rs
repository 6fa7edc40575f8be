//! Headers that every response gets on its way to the client, whoever made it: `server`, `date`, `x-request-id`.

use bytes::Bytes;
use config::model::{HttpConnectionManager, ServerHeader};

use crate::http::ResponseHead;
use crate::telemetry::request_id;

/// What the response's headers are completed with.
#[derive(Debug)]
pub struct Completion<'a> {
    /// The connection manager.
    pub config: &'a HttpConnectionManager,
    /// `date` for now.
    pub date: Bytes,
    /// The request's id.
    pub request_id: Option<&'a Bytes>,
}

/// Completes a response's headers as Envoy does.
pub fn complete(head: &mut ResponseHead, with: Completion<'_>) {
    let config = with.config;
    let name = || Bytes::copy_from_slice(config.server_name.as_bytes());
    match config.server_header {
        ServerHeader::Overwrite => head.headers.set_known("server", name()),
        ServerHeader::AppendIfAbsent if !head.headers.contains("server") => {
            head.headers.append_known("server", name())
        }
        ServerHeader::AppendIfAbsent | ServerHeader::PassThrough => {}
    }
    if !head.headers.contains("date") {
        head.headers.append_known("date", with.date);
    }
    if config.always_set_request_id_in_response
        && let Some(id) = with.request_id
    {
        head.headers.set_known(request_id::HEADER, id.clone());
    }
    if !config.via.is_empty() {
        head.headers.append("via", Bytes::copy_from_slice(config.via.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::manager;
    use crate::http::BodyLength;

    fn run(server: Option<&'static str>, mode: ServerHeader) -> Option<String> {
        let mut config = manager();
        config.server_header = mode;
        config.server_name = "istio-envoy".into();
        let mut head = ResponseHead::new(200, BodyLength::None);
        head.headers = server.map(|server| ("Server", server)).into_iter().collect();
        complete(&mut head, Completion { config: &config, date: "now".into(), request_id: None });
        assert_eq!(head.headers.get_str("date"), Some("now"));
        head.headers.get_str("server").map(str::to_owned)
    }

    #[test]
    fn server_follows_the_configuration() {
        assert_eq!(run(Some("app"), ServerHeader::Overwrite).as_deref(), Some("istio-envoy"));
        assert_eq!(run(Some("app"), ServerHeader::AppendIfAbsent).as_deref(), Some("app"));
        assert_eq!(run(None, ServerHeader::AppendIfAbsent).as_deref(), Some("istio-envoy"));
        assert_eq!(run(Some("app"), ServerHeader::PassThrough).as_deref(), Some("app"));
        assert_eq!(run(None, ServerHeader::PassThrough), None);
    }

    #[test]
    fn the_apps_date_stays_and_the_id_is_told_when_asked() {
        let mut config = manager();
        config.always_set_request_id_in_response = true;
        let mut head = ResponseHead::new(200, BodyLength::None);
        head.headers = [("Date", "theirs")].into_iter().collect();
        let id = Bytes::from("11-22");
        complete(&mut head, Completion { config: &config, date: "ours".into(), request_id: Some(&id) });
        assert_eq!(head.headers.get_str("date"), Some("theirs"));
        assert_eq!(head.headers.get_str("x-request-id"), Some("11-22"));
    }
}
