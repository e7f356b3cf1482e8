//! What is sent: files, directories, or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::message::{Entry, MAX_ENTRIES};

/// Something that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error("{} is neither a file nor a directory", .0.display())]
    Special(PathBuf),
    #[error("{} has no name that can be sent", .0.display())]
    Name(PathBuf),
    #[error(
        "two of the files would arrive as {0:?}; send them one after the other, or their directory"
    )]
    Twice(String),
    #[error("more than {MAX_ENTRIES} files; pack them first")]
    Many,
    #[error("standard input (-) is sent alone")]
    InputAlone,
}

/// The entries of a transfer, with where each is read.
#[derive(Debug)]
pub(crate) struct Source {
    /// What the receiver is told.
    pub(crate) entries: Vec<Entry>,
    /// Where each is; `None` for standard input.
    places: Vec<Option<PathBuf>>,
    /// Links and special files that are left out.
    pub(crate) skipped: Vec<PathBuf>,
}

impl Source {
    /// Looks at what is named on the command line.
    pub(crate) fn new(paths: &[PathBuf], name: Option<&str>) -> Result<Self, SourceError> {
        let mut source = Self {
            entries: Vec::new(),
            places: Vec::new(),
            skipped: Vec::new(),
        };
        if paths.iter().any(|path| path.as_os_str() == "-") {
            if paths.len() > 1 {
                return Err(SourceError::InputAlone);
            }
            source.entries.push(Entry {
                path: name.unwrap_or("stdin").to_owned(),
                size: None,
                directory: false,
                executable: false,
            });
            source.places.push(None);
            return Ok(source);
        }
        for path in paths {
            let unreadable = |reason| SourceError::Unreadable {
                path: path.clone(),
                reason,
            };
            let real = path.canonicalize().map_err(unreadable)?;
            let own = real.file_name().and_then(|name| name.to_str());
            let top = match (name, own) {
                (Some(name), _) if paths.len() == 1 => name,
                (_, Some(own)) => own,
                _ => return Err(SourceError::Name(path.clone())),
            };
            // What is named is followed if it is a link; what is found below it is not.
            source.add(&real, top)?;
        }
        let mut tops: Vec<&str> = source
            .entries
            .iter()
            .map(|entry| entry.path.as_str())
            .collect();
        tops.sort_unstable();
        if let Some(twice) = tops.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SourceError::Twice(twice[0].to_owned()));
        }
        Ok(source)
    }

    fn add(&mut self, place: &Path, path: &str) -> Result<(), SourceError> {
        let unreadable = |reason| SourceError::Unreadable {
            path: place.to_owned(),
            reason,
        };
        let metadata = std::fs::symlink_metadata(place).map_err(unreadable)?;
        if metadata.is_dir() {
            let mut children: Vec<_> = std::fs::read_dir(place)
                .and_then(Iterator::collect::<Result<_, _>>)
                .map_err(unreadable)?;
            children.sort_by_key(std::fs::DirEntry::file_name);
            if children.is_empty() {
                self.push(place, path, None, true, false)?;
            }
            for child in children {
                let name = child.file_name();
                let name = name
                    .to_str()
                    .ok_or_else(|| SourceError::Name(child.path()))?;
                self.add(&child.path(), &format!("{path}/{name}"))?;
            }
            Ok(())
        } else if metadata.is_file() {
            // Better found out now than when half of the others are through.
            drop(std::fs::File::open(place).map_err(unreadable)?);
            self.push(
                place,
                path,
                Some(metadata.len()),
                false,
                is_executable(&metadata),
            )
        } else if path.contains('/') {
            self.skipped.push(place.to_owned());
            Ok(())
        } else {
            Err(SourceError::Special(place.to_owned()))
        }
    }

    fn push(
        &mut self,
        place: &Path,
        path: &str,
        size: Option<u64>,
        directory: bool,
        executable: bool,
    ) -> Result<(), SourceError> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(SourceError::Many);
        }
        self.entries.push(Entry {
            path: path.to_owned(),
            size,
            directory,
            executable,
        });
        self.places.push(Some(place.to_owned()));
        Ok(())
    }

    /// Bytes of all files, if they are known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let files = self.entries.iter().filter(|entry| !entry.directory);
        files.map(|entry| entry.size).sum()
    }

    /// True if it can be sent once only.
    pub(crate) fn is_input(&self) -> bool {
        self.places.iter().any(Option::is_none)
    }

    /// Opens an entry.
    pub(crate) fn open(&self, entry: usize) -> std::io::Result<Box<dyn Read + Send>> {
        match self.places.get(entry) {
            Some(Some(place)) => Ok(Box::new(std::fs::File::open(place)?)),
            Some(None) => Ok(Box::new(std::io::stdin())),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_metadata: &std::fs::Metadata) -> bool {
    false
}
