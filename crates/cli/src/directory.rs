//! Reads a directory of YAML once, as `tulled` would: `DIR/<namespace>/**.yaml` sets a missing namespace, `DIR/mesh.yaml`
//! is the MeshConfig. Bounded; what cannot be read is a problem, not a silence.

use std::io::Read;
use std::path::{Path, PathBuf};

use api::{Level, MeshConfig, Problem};
use translate::{Change, World};

use crate::Error;

const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 100_000;

/// What a directory holds.
pub struct Directory {
    /// The mesh that its valid resources make.
    pub world: World,
    /// Everything worth saying about the files.
    pub problems: Vec<Problem>,
}

/// Reads a directory.
///
/// # Errors
/// The directory or one of its files cannot be read.
pub fn read(root: &Path, default_namespace: &str) -> Result<Directory, Error> {
    let mut files = Vec::new();
    list(root, &mut files, 0)?;
    files.sort();
    let (mut problems, mut changes) = (Vec::new(), Vec::new());
    let mut mesh = MeshConfig::default();
    for file in &files {
        let shown = file.display().to_string();
        let relative = file.strip_prefix(root)?;
        let bytes = bounded(file)?;
        if relative == Path::new("mesh.yaml") {
            let (parsed, found) = api::parse_mesh_config(&shown, &bytes);
            problems.extend(found);
            mesh = parsed.unwrap_or(mesh);
            continue;
        }
        let folder = relative.parent().and_then(|parent| parent.components().next());
        let namespace =
            folder.map_or(default_namespace.into(), |folder| folder.as_os_str().to_string_lossy());
        let parsed = api::parse(&shown, &bytes, &namespace);
        problems.extend(parsed.problems);
        problems.extend(parsed.objects.iter().flat_map(api::acting::not_acting));
        changes.extend(parsed.objects.into_iter().map(Change::Apply));
    }
    Ok(Directory { world: World::empty(mesh).with(&changes), problems })
}

fn list(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(format!("{}: more than {MAX_DEPTH} directories deep", folder.display()).into());
    }
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml =
            path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if hidden {
            continue;
        }
        if path.is_dir() {
            list(&path, files, depth + 1)?;
        } else if yaml {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", folder.display()).into());
        }
    }
    Ok(())
}

/// A file's bytes, up to one more than the parser takes, so that it is the parser that names the limit.
fn bounded(file: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let limit = api::limits::FILE_BYTES as u64 + 1;
    std::fs::File::open(file)
        .and_then(|open| open.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(bytes)
}

/// One line a problem, as `tulled` prints them. Returns whether one of them is an error.
pub fn print_problems(problems: &[Problem]) -> bool {
    for problem in problems {
        eprintln!("{problem}");
    }
    problems.iter().any(|problem| problem.level == Level::Error)
}
