//! `typed_per_filter_config`: no filter takes configuration of a route yet, so only what may be ignored is accepted.

use crate::context::{Context, Result};
use protos::Any;
use protos::any::type_url;
use protos::envoy::envoy::config::route::v3::FilterConfig;
use std::collections::{BTreeMap, HashMap};

/// Refuses the configuration of filters, unless it is marked as optional.
pub fn read_filter_configs(cx: &mut Context, configs: &HashMap<String, Any>) -> Result<()> {
    let sorted: BTreeMap<_, _> = configs.iter().collect();
    for (name, any) in sorted {
        cx.entry("typed_per_filter_config", name, |cx| {
            if any.type_url == type_url::<FilterConfig>() {
                let FilterConfig { config, is_optional, disabled } = cx.open(any)?;
                let kind = config.map_or(String::new(), |config| config.type_url);
                if is_optional && !disabled {
                    cx.note(format!("optional configuration of the filter {name:?} ({kind})"));
                    return Ok(());
                }
            }
            Err(cx.refused(format!(
                "configuration of the filter {name:?} ({}) by route is not supported",
                any.type_url
            )))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_optional_configuration_is_left_out() {
        let read = |is_optional, disabled| {
            let config = FilterConfig { config: None, is_optional, disabled };
            let configs = [("envoy.filters.http.rbac".to_owned(), protos::any::pack(&config))].into();
            Context::read(|cx| read_filter_configs(cx, &configs))
        };
        assert_eq!(read(true, false).unwrap().notes.len(), 1);
        let place = "typed_per_filter_config[\"envoy.filters.http.rbac\"]";
        assert_eq!(read(false, false).unwrap_err().path, place);
        assert_eq!(read(true, true).unwrap_err().path, place);
    }
}
