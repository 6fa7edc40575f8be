//! `envoy.config.core.v3.DataSource`. Reading is pure: a file is named, never opened here.

use super::name::required_name;
use crate::context::{Context, Result, report};
use protos::envoy::envoy::config::core::v3 as core;
use std::sync::Arc;

/// Largest inline data, in bytes.
const MAX_INLINE: usize = 1 << 20;

/// Where data comes from.
pub enum Data {
    /// A file.
    File(Arc<str>),
    /// In the configuration.
    Inline(Arc<[u8]>),
}

/// Reads a data source.
pub fn read_data_source(cx: &mut Context, field: &str, message: &core::DataSource) -> Result<Data> {
    use core::data_source::Specifier;
    cx.field(field, |cx| {
        let core::DataSource { watched_directory, specifier } = message;
        report!(cx, "files are watched by themselves"; watched_directory);
        let bytes = match specifier {
            Some(Specifier::Filename(path)) => return Ok(Data::File(required_name(cx, "filename", path)?)),
            Some(Specifier::InlineBytes(bytes)) => bytes.as_slice(),
            Some(Specifier::InlineString(text)) => text.as_bytes(),
            Some(Specifier::EnvironmentVariable(_)) => {
                return Err(
                    cx.refused_field("environment_variable", "is not supported: use a file or inline data")
                );
            }
            None => return Err(cx.refused("has no source")),
        };
        if bytes.len() > MAX_INLINE {
            return Err(cx.refused(format!("{} bytes, the limit is {MAX_INLINE}", bytes.len())));
        }
        Ok(Data::Inline(bytes.into()))
    })
}

/// Reads a data source that must be inline text.
pub fn read_inline_text(cx: &mut Context, field: &str, message: &core::DataSource) -> Result<String> {
    match read_data_source(cx, field, message)? {
        Data::Inline(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(cx.refused_field(field, "is not UTF-8")),
        },
        Data::File(_) => Err(cx.refused_field(field, "files are not supported here: write the text inline")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::data_source::Specifier;
    use protos::envoy::envoy::config::core::v3 as core;

    #[test]
    fn reads_inline_text_only_where_text_is_wanted() {
        let source = |specifier| core::DataSource { watched_directory: None, specifier: Some(specifier) };
        let read =
            |message| Context::read(|cx| read_inline_text(cx, "body", &message)).map(|read| read.value);
        assert_eq!(read(source(Specifier::InlineString("hi".into()))).unwrap(), "hi");
        assert_eq!(read(source(Specifier::Filename("/etc/passwd".into()))).unwrap_err().path, "body");
        assert!(read(source(Specifier::InlineBytes(vec![0xff]))).is_err());
        assert!(read(source(Specifier::EnvironmentVariable("HOME".into()))).is_err());
    }
}
