//! Which files count, and what they come to as layers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key::Key;
use super::layers::Layers;
use super::lines::Found;
use super::problem::Problem;
use super::{Sources, config_json, file, ftagent_toml};

/// Our file, the published agent's, and the folder beside either with more of ours.
const OUR_FILE: &str = "ftagent.toml";
const THEIR_FILE: &str = "config.json";
const MORE_FILES: &str = "conf.d";

/// The files' layers.
#[derive(Default)]
pub(super) struct Files {
    pub(super) read: Vec<PathBuf>,
    /// Whether something in them could not be read: what seems to be missing may stand there.
    pub(super) are_broken: bool,
}

impl Files {
    /// Reads the file that is named, else ours, else theirs; then more of ours beside it. Puts each on top of the last.
    pub(super) fn read(sources: &Sources, layers: &mut Layers) -> Self {
        let mut files = Self::default();
        let named = sources.file.clone();
        match named.or_else(|| sources.environment.config()) {
            Some(named) => {
                if !files.add(&named, layers) {
                    files.are_broken = true;
                    layers.problems.push(Problem::File {
                        path: Arc::new(named.clone()),
                        reason: "no such file; name one that is there with --config".to_owned(),
                    });
                }
                let folder = named.parent().map(|folder| folder.join(MORE_FILES));
                files.add_all(folder.unwrap_or_default(), layers);
            }
            None => {
                let (ours, theirs) = (
                    sources.folder.join(OUR_FILE),
                    sources.folder.join(THEIR_FILE),
                );
                if !files.add(&ours, layers) {
                    files.add(&theirs, layers);
                } else if theirs.exists() {
                    layers.notices.push(format!(
                        "{}: is not read, because {} is there",
                        theirs.display(),
                        ours.display()
                    ));
                }
                files.add_all(sources.folder.join(MORE_FILES), layers);
            }
        }
        files
    }

    /// Everything in `conf.d`, by name.
    fn add_all(&mut self, folder: PathBuf, layers: &mut Layers) {
        match file::list(&Arc::new(folder)) {
            Ok(paths) => {
                for path in paths {
                    self.add(&path, layers);
                }
            }
            Err(problem) => {
                self.are_broken = true;
                layers.problems.push(problem);
            }
        }
    }

    /// One file, if it is there. Says whether it is, readable or not.
    fn add(&mut self, path: &Path, layers: &mut Layers) -> bool {
        let path = Arc::new(path.to_owned());
        let content = match file::read(&path) {
            Ok(Some(content)) => content,
            Ok(None) => return false,
            Err(problem) => {
                self.are_broken = true;
                layers.problems.push(problem);
                return true;
            }
        };
        let sets_key = self.add_text(&path, &content.text, layers);
        if sets_key {
            layers.problems.extend(content.exposure(&path));
        }
        true
    }

    /// What stands in a file. Says whether it is a key.
    pub(super) fn add_text(
        &mut self,
        path: &Arc<PathBuf>,
        text: &str,
        layers: &mut Layers,
    ) -> bool {
        let found = parse(text, path);
        let sets_key = found.sets(Key::ApiKey);
        self.are_broken |= found.is_broken;
        found.apply(path, layers);
        self.read.push(path.to_path_buf());
        sets_key
    }
}

/// What a file says: the published agent's by its name's ending or its first character, which begins no TOML; else
/// ours.
fn parse(text: &str, path: &Arc<PathBuf>) -> Found {
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    if is_json || text.trim_start().starts_with('{') {
        config_json::read(text, path)
    } else {
        ftagent_toml::read(text, path)
    }
}
