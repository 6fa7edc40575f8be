//! `envoy.config.core.v3.ConfigSource`: everything dynamic comes over the one ADS stream.

use crate::context::{Context, Result, refuse};
use protos::envoy::envoy::config::core::v3 as core;

/// Accepts a config source that means the ADS stream.
pub fn read_ads_source(cx: &mut Context, field: &str, message: &Option<core::ConfigSource>) -> Result<()> {
    use core::config_source::ConfigSourceSpecifier;
    let source = cx.required(field, message)?;
    cx.field(field, |cx| {
        let core::ConfigSource {
            authorities,
            initial_fetch_timeout,
            resource_api_version,
            config_source_specifier,
        } = source;
        refuse!(cx, "xdstp authorities are not supported"; authorities);
        // 0 says what is always done: a missing resource is waited for without limit.
        let limit = cx.limit("initial_fetch_timeout", initial_fetch_timeout, None)?;
        cx.report_set("initial_fetch_timeout", &limit, "a missing resource is waited for without limit");
        read_version(cx, "resource_api_version", *resource_api_version)?;
        match config_source_specifier {
            Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})) => Ok(()),
            Some(ConfigSourceSpecifier::Self_(core::SelfConfigSource { transport_api_version })) => {
                cx.field("self", |cx| read_version(cx, "transport_api_version", *transport_api_version))
            }
            _ => Err(cx.refused("only the ADS stream is supported as source: write ads: {}")),
        }
    })
}

/// Accepts API version V3; AUTO means V3 since V2 is gone.
pub fn read_version(cx: &mut Context, field: &str, version: i32) -> Result<()> {
    match core::ApiVersion::try_from(version) {
        Ok(core::ApiVersion::Auto | core::ApiVersion::V3) => Ok(()),
        _ => Err(cx.refused_field(field, "only V3 is supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::config_source::ConfigSourceSpecifier;
    use protos::envoy::envoy::config::core::v3 as core;

    fn read(specifier: ConfigSourceSpecifier) -> Result<crate::Read<()>> {
        let initial_fetch_timeout = Some(protos::envoy::google::protobuf::Duration { seconds: 5, nanos: 0 });
        let config_source_specifier = Some(specifier);
        let source =
            core::ConfigSource { initial_fetch_timeout, config_source_specifier, ..Default::default() };
        Context::read(|cx| read_ads_source(cx, "rds", &Some(source)))
    }

    #[test]
    fn only_ads() {
        let accepted = read(ConfigSourceSpecifier::Ads(Default::default())).unwrap();
        assert_eq!(accepted.notes[0].path, "rds.initial_fetch_timeout");
        assert_eq!(read(ConfigSourceSpecifier::Path("/x".into())).unwrap_err().path, "rds");
    }
}
