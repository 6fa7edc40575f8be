//! The one canonical form of the path.
use config::model::HttpConnectionManager;

use crate::filter::LocalReply;
use crate::http::RequestHead;

/// TEMP
pub fn apply(_head: &mut RequestHead, _config: &HttpConnectionManager) -> Result<(), Box<LocalReply>> {
    Ok(())
}
