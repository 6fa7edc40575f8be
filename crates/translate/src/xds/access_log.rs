//! The access log that MeshConfig asks for.

use api::MeshConfig;
use protos::envoy::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use protos::envoy::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
};
use protos::envoy::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};

use crate::kinds::sendable;

/// Operators that only our proxy knows.
const OWN: [&str; 4] = ["%TULLE_REASON%", "%TULLE_BLAME%", "%TULLE_HOP%", "%TULLE_PEER%"];

/// Istio's default line.
const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// The loggers of a listener; none without `accessLogFile`. `tulle`: for our own proxy, which knows operators of its own.
pub fn access_logs(mesh: &MeshConfig, tulle: bool) -> Vec<AccessLog> {
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    let mut format = DEFAULT_FORMAT.to_owned();
    if !mesh.access_log_format.is_empty() && sendable::format_defect(&mesh.access_log_format).is_none() {
        format.clone_from(&mesh.access_log_format);
        if !format.ends_with('\n') {
            format.push('\n');
        }
    }
    if !tulle {
        // Envoy refuses the whole listener for an operator that it does not know.
        OWN.iter().for_each(|own| format = format.replace(own, "-"));
    }
    let source = DataSource { specifier: Some(Specifier::InlineString(format)), ..Default::default() };
    let log_format =
        SubstitutionFormatString { format: Some(Format::TextFormatSource(source)), ..Default::default() };
    let file = FileAccessLog {
        path: mesh.access_log_file.clone(),
        access_log_format: Some(AccessLogFormat::LogFormat(log_format)),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(ConfigType::TypedConfig(protos::any::pack(&file))),
        ..Default::default()
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mesh: &MeshConfig) -> String {
        let Some(ConfigType::TypedConfig(any)) = access_logs(mesh, true).remove(0).config_type else {
            panic!()
        };
        let file: FileAccessLog = protos::any::open(&any).unwrap();
        let Some(AccessLogFormat::LogFormat(format)) = file.access_log_format else { panic!() };
        let Some(Format::TextFormatSource(source)) = format.format else { panic!() };
        let Some(Specifier::InlineString(text)) = source.specifier else { panic!() };
        text
    }

    #[test]
    fn nothing_is_logged_unless_asked() {
        assert!(access_logs(&MeshConfig::default(), true).is_empty());
    }

    #[test]
    fn the_default_line_ends_and_a_written_one_gets_an_end() {
        let mut mesh = MeshConfig { access_log_file: "/dev/stdout".to_owned(), ..Default::default() };
        assert!(line(&mesh).starts_with("[%START_TIME%]") && line(&mesh).ends_with("%ROUTE_NAME%\n"));
        mesh.access_log_format = "%DURATION%".to_owned();
        assert_eq!(line(&mesh), "%DURATION%\n");
        mesh.access_log_format = "%NO_SUCH_THING%".to_owned();
        assert!(line(&mesh).starts_with("[%START_TIME%]"), "a proxy would refuse its listeners");
    }
}
