//! The unix socket of `--sds`: only its owner can connect, from the first moment on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::UnixListener;

/// Listens at `path` with mode 0600; a socket that an earlier process left there is replaced.
///
/// # Errors
/// There is something else at `path`, its folder is missing, or the path is too long for a socket.
pub fn listen(path: &Path) -> Result<UnixListener, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(fail(&"is there already, and is not a socket"));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(&error)),
        _ => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made in a folder that only its owner can enter (0700), closed to others, and only then put in its place.
    let private = tempfile::Builder::new().prefix(".s").tempdir_in(parent).map_err(|error| fail(&error))?;
    let fresh = private.path().join("s");
    let listener = UnixListener::bind(&fresh).map_err(|error| fail(&error))?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(|error| fail(&error))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_and_replaces_only_a_socket() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sds");
        for _ in 0..2 {
            let listener = listen(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let (client, server) = tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
            assert!(client.is_ok() && server.is_ok());
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "a temporary folder was left");
        let file = place.path().join("file");
        fs::write(&file, "text").unwrap();
        assert!(listen(&file).unwrap_err().contains("not a socket"));
    }
}
