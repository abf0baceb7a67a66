//! Files, opened carefully: what is no plain, small, private text is refused with the reason.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::problem::Problem;
use crate::words::Thousands;

/// The largest file there can be reason for: all settings with all comments take a hundredth of it.
const BYTES_MAX: u64 = 1_048_576;

/// So many entries of a directory are looked at, and so many files of it read. A directory with more is not one of ours.
const ENTRIES_MAX: usize = 1_024;
const FILES_MAX: usize = 64;

/// A file's content and who may read it.
pub(super) struct Content {
    pub(super) text: String,
    permissions: Metadata,
}

/// Reads a file; `None` when there is none.
pub(super) fn read(path: &Arc<PathBuf>) -> Result<Option<Content>, Problem> {
    let refused = |reason: String| {
        let path = Arc::clone(path);
        Err(Problem::File { path, reason })
    };
    let failed = |source| Problem::Read {
        path: Arc::clone(path),
        source,
    };
    let entry = match fs::symlink_metadata(path.as_path()) {
        Ok(entry) => entry,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if entry.is_symlink() {
        let target = fs::read_link(path.as_path()).unwrap_or_default();
        return refused(format!(
            "expected a file, found a symbolic link to {}; put the file itself there",
            target.display()
        ));
    }
    if entry.is_dir() {
        return refused("expected a file, found a directory".to_owned());
    }
    if !entry.is_file() {
        return refused("expected a file, found a device, pipe or socket".to_owned());
    }
    let file = File::open(path.as_path()).map_err(failed)?;
    let permissions = file.metadata().map_err(failed)?;
    if (permissions.dev(), permissions.ino()) != (entry.dev(), entry.ino()) {
        return refused("was replaced while it was opened; try again".to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more than the limit tells a file that fits from one that goes on, whatever its length claims.
    let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return refused(format!(
            "expected at most {} bytes, found more; this is no configuration",
            Thousands(BYTES_MAX)
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Content { text, permissions })),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            refused(format!(
                "expected text in UTF-8, found something else at byte {at}"
            ))
        }
    }
}

/// Everything in a directory that ends in `.toml`, by name; nothing when there is no such directory.
pub(super) fn list(folder: &Arc<PathBuf>) -> Result<Vec<PathBuf>, Problem> {
    let failed = |source| Problem::Read {
        path: Arc::clone(folder),
        source,
    };
    let entries = match fs::read_dir(folder.as_path()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for (seen, entry) in entries.enumerate() {
        let name = entry.map_err(failed)?.file_name();
        // What begins with a dot is an editor's.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && name.as_encoded_bytes().ends_with(b".toml") {
            files.push(folder.join(name));
        }
        if seen >= ENTRIES_MAX || files.len() > FILES_MAX {
            return Err(Problem::File {
                path: Arc::clone(folder),
                reason: format!(
                    "expected at most {FILES_MAX} files that end in .toml, and {} of any kind; found more",
                    Thousands(ENTRIES_MAX as u64)
                ),
            });
        }
    }
    files.sort_unstable();
    Ok(files)
}

impl Content {
    /// What is wrong with the permissions of a file that holds a key.
    pub(super) fn exposure(&self, path: &Arc<PathBuf>) -> Option<Problem> {
        let (who, cure) = exposed(&self.permissions, &Ourselves::now())?;
        Some(Problem::Exposed {
            path: Arc::clone(path),
            who,
            mode: self.permissions.mode() & 0o7777,
            cure,
        })
    }
}

/// Who we are to a file.
struct Ourselves {
    is_root: bool,
    groups: Vec<u32>,
}

impl Ourselves {
    fn now() -> Self {
        let mut groups = vec![rustix::process::getegid().as_raw()];
        let others = rustix::process::getgroups().unwrap_or_default();
        groups.extend(others.into_iter().map(|group| group.as_raw()));
        Self {
            is_root: rustix::process::geteuid().is_root(),
            groups,
        }
    }
}

/// Reading or changing: who may change the file can send the key to another host.
const OTHERS: u32 = 0o006;
const GROUP: u32 = 0o060;

/// Who may read or change a file that should not, and the change of its mode that stops them.
///
/// A group is trusted when it is root's or one of ours. Root cannot tell: the agent's group, which the package gives the
/// file to, is not among its own.
fn exposed(file: &Metadata, ourselves: &Ourselves) -> Option<(&'static str, &'static str)> {
    exposed_to(file.mode(), file.gid(), ourselves)
}

fn exposed_to(
    mode: u32,
    group: u32,
    ourselves: &Ourselves,
) -> Option<(&'static str, &'static str)> {
    let trusted = group == 0 || ourselves.is_root || ourselves.groups.contains(&group);
    if mode & OTHERS != 0 {
        Some(("everyone on this host", "o-rwx"))
    } else if mode & GROUP != 0 && !trusted {
        Some(("a group that the agent does not belong to", "g-rwx"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_its_owner_and_for_groups_of_ours() {
        let agent = Ourselves {
            is_root: false,
            groups: vec![990, 4],
        };
        let root = Ourselves {
            is_root: true,
            groups: vec![0],
        };
        for (mode, group) in [
            (0o600, 100),
            (0o640, 990),
            (0o660, 990),
            (0o640, 4),
            (0o440, 0),
            (0o611, 990),
        ] {
            assert_eq!(exposed_to(mode, group, &agent), None, "{mode:o} {group}");
            assert_eq!(exposed_to(mode, group, &root), None, "{mode:o} {group}");
        }
        for mode in [0o644, 0o604, 0o602, 0o666] {
            for ourselves in [&agent, &root] {
                let (who, cure) = exposed_to(mode, 990, ourselves).unwrap();
                assert_eq!((who, cure), ("everyone on this host", "o-rwx"));
            }
        }
        assert_eq!(
            exposed_to(0o640, 100, &agent),
            Some(("a group that the agent does not belong to", "g-rwx"))
        );
        assert_eq!(exposed_to(0o640, 100, &root), None);
    }
}
