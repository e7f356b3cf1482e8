//! Where received files are put: first into a directory of their own, and in their place only when
//! everything is there and verified.
//!
//! The staging directory's name is made of the list of entries, so that the same transfer finds what it
//! left there when it broke.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use visavis_crypto::HashAlgorithm;

use super::digest::{Digest, PIECE};
use super::message::Entry;
use super::path::{self, BadPath};

/// How the names of staging directories begin.
pub(crate) const STAGING_PREFIX: &str = ".visavis-partial-";

/// Why something cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    BadPath(#[from] BadPath),
    #[error("the other side sent {0:?} twice")]
    Twice(String),
    #[error("the disk is full: free some space, then run the same command again to go on")]
    DiskFull,
    #[error("cannot write {}: {reason}", path.display())]
    Write { path: PathBuf, reason: io::Error },
    #[error("another `visavis receive` is at this very transfer in {}", .0.display())]
    Busy(PathBuf),
    #[error("{} is there already; nothing was overwritten (--overwrite, --rename or --output DIR decide)", .0.display())]
    Exists(PathBuf),
    #[error("the other side broke the rules of a transfer ({0})")]
    Protocol(&'static str),
    #[error("{0:?} arrived damaged; run the same command again")]
    Damaged(String),
    #[error("only one file can go to standard output")]
    OutputAlone,
}

fn write_error(path: &Path, reason: io::Error) -> StoreError {
    if reason.kind() == io::ErrorKind::StorageFull {
        return StoreError::DiskFull;
    }
    StoreError::Write {
        path: path.to_owned(),
        reason,
    }
}

/// What is done with a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// Nothing is written.
    Fail,
    /// The old file is replaced; directories never are.
    Overwrite,
    /// The new one is called `name (2)`.
    Rename,
}

/// Where one transfer is written to.
pub(crate) struct Store {
    entries: Vec<Entry>,
    target: Target,
    /// The entry being written.
    current: Option<(u64, Box<dyn Write + Send>, Digest)>,
    /// Digests of what was there already, to be gone on with.
    partial: HashMap<u64, Digest>,
    verified: HashSet<u64>,
}

enum Target {
    Output,
    Directory {
        /// Where things go in the end.
        destination: PathBuf,
        staging: PathBuf,
        /// The name in the end of each top-level name.
        names: BTreeMap<String, String>,
        /// Those of them that may replace a file.
        replace: HashSet<String>,
        /// Held while this runs.
        _lock: File,
    },
}

impl Store {
    /// For standard output.
    pub(crate) fn output(entries: Vec<Entry>) -> Result<Self, StoreError> {
        match entries.as_slice() {
            [entry] if !entry.directory => Ok(Self::new(entries, Target::Output)),
            _ => Err(StoreError::OutputAlone),
        }
    }

    /// For a directory, which must exist. A single top-level name can be given another one.
    pub(crate) fn directory(
        destination: &Path,
        entries: Vec<Entry>,
        name: Option<&str>,
    ) -> Result<Self, StoreError> {
        let mut seen = HashSet::new();
        let mut names = BTreeMap::new();
        for entry in &entries {
            path::relative(&entry.path)?;
            if !seen.insert(entry.path.as_str()) {
                return Err(StoreError::Twice(entry.path.clone()));
            }
            let top = top(&entry.path).to_owned();
            names.insert(top.clone(), top);
        }
        if let (Some(name), 1) = (name, names.len()) {
            names.values_mut().for_each(|own| *own = name.to_owned());
        }
        let list = serde_json::to_vec(&entries).unwrap_or_default();
        let mark = format!("{:?}", HashAlgorithm::Sha256.hash(&list));
        let staging = destination.join(format!("{STAGING_PREFIX}{}", &mark[..16]));
        fs::create_dir_all(&staging).map_err(|error| write_error(&staging, error))?;
        let lock_path = staging.join("lock");
        let lock = File::create(&lock_path).map_err(|error| write_error(&lock_path, error))?;
        if lock.try_lock().is_err() {
            return Err(StoreError::Busy(destination.to_owned()));
        }
        let target = Target::Directory {
            destination: destination.to_owned(),
            staging,
            names,
            replace: HashSet::new(),
            _lock: lock,
        };
        Ok(Self::new(entries, target))
    }

    fn new(entries: Vec<Entry>, target: Target) -> Self {
        Self {
            entries,
            target,
            current: None,
            partial: HashMap::new(),
            verified: HashSet::new(),
        }
    }

    /// Top-level names that are taken.
    pub(crate) fn conflicts(&self) -> Vec<PathBuf> {
        match &self.target {
            Target::Output => Vec::new(),
            Target::Directory {
                destination, names, ..
            } => {
                let places = names.values().map(|name| destination.join(name));
                places.filter(|place| exists(place)).collect()
            }
        }
    }

    /// Settles what is done with names that are taken.
    pub(crate) fn settle(&mut self, policy: OnConflict) -> Result<(), StoreError> {
        let Target::Directory {
            destination,
            names,
            replace,
            ..
        } = &mut self.target
        else {
            return Ok(());
        };
        for name in names.values_mut() {
            let place = destination.join(&*name);
            if !exists(&place) {
                continue;
            }
            match policy {
                OnConflict::Overwrite if place.is_file() => {
                    replace.insert(name.clone());
                }
                OnConflict::Rename => *name = free_name(destination, name),
                _ => return Err(StoreError::Exists(place)),
            }
        }
        Ok(())
    }

    fn place(&self, entry: u64) -> Option<PathBuf> {
        let entry = self.entries.get(usize::try_from(entry).ok()?)?;
        match &self.target {
            Target::Output => None,
            Target::Directory { staging, .. } => {
                Some(staging.join("tree").join(path::relative(&entry.path).ok()?))
            }
        }
    }

    /// What is there already of each entry: whole pieces, or all of it; with its digest. Reads it.
    pub(crate) fn have(&mut self) -> Vec<(u64, u64, String)> {
        let mut have = Vec::new();
        for number in 0..self.entries.len() as u64 {
            let Some(size) = self.entries[number as usize].size else {
                continue;
            };
            let Some(mut file) = self.place(number).and_then(|place| File::open(place).ok()) else {
                continue;
            };
            let there = file.metadata().map_or(0, |metadata| metadata.len());
            let usable = if there >= size {
                size
            } else {
                there - there % PIECE
            };
            if usable == 0 {
                continue;
            }
            let mut digest = Digest::new();
            if read_into(&mut file, usable, |bytes| digest.update(bytes)).is_ok() {
                have.push((number, usable, digest.current()));
                self.partial.insert(number, digest);
            }
        }
        have
    }

    /// Bytes of an entry begin, from `offset` on.
    pub(crate) fn begin(&mut self, number: u64, offset: u64) -> Result<(), StoreError> {
        if self.current.is_some() || number >= self.entries.len() as u64 {
            return Err(StoreError::Protocol("an entry began out of turn"));
        }
        if self.entries[number as usize].directory {
            return Err(StoreError::Protocol("a directory has no bytes"));
        }
        let known = self.partial.remove(&number);
        let digest = match known {
            Some(digest) if digest.len() == offset => digest,
            _ if offset == 0 => Digest::new(),
            _ => {
                return Err(StoreError::Protocol(
                    "an entry goes on where it did not end",
                ));
            }
        };
        let writer: Box<dyn Write + Send> = match self.place(number) {
            None => Box::new(io::stdout()),
            Some(place) => {
                let open = || {
                    if let Some(parent) = place.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    let mut file = OpenOptions::new()
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .open(&place)?;
                    file.set_len(offset)?;
                    file.seek(SeekFrom::Start(offset))?;
                    Ok(file)
                };
                Box::new(open().map_err(|error| write_error(&place, error))?)
            }
        };
        self.current = Some((number, writer, digest));
        Ok(())
    }

    /// The next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some((number, writer, digest)) = &mut self.current else {
            return Err(StoreError::Protocol("bytes of no entry"));
        };
        let entry = &self.entries[*number as usize];
        let after = digest.len() + bytes.len() as u64;
        if entry.size.is_some_and(|size| after > size) {
            return Err(StoreError::Protocol("more bytes than were announced"));
        }
        writer
            .write_all(bytes)
            .map_err(|error| write_error(Path::new(&entry.path), error))?;
        digest.update(bytes);
        Ok(())
    }

    /// The entry is through.
    pub(crate) fn end(
        &mut self,
        number: u64,
        bytes: u64,
        expected: &str,
    ) -> Result<(), StoreError> {
        let Some((current, mut writer, digest)) = self.current.take() else {
            return Err(StoreError::Protocol("an entry ended that did not begin"));
        };
        let entry = &self.entries[current as usize];
        if current != number || entry.size.is_some_and(|size| size != bytes) {
            return Err(StoreError::Protocol("an entry ended out of turn"));
        }
        writer
            .flush()
            .map_err(|error| write_error(Path::new(&entry.path), error))?;
        drop(writer);
        if digest.len() != bytes || digest.current() != expected {
            if let Some(place) = self.place(number) {
                let _ = fs::remove_file(place);
            }
            return Err(StoreError::Damaged(entry.path.clone()));
        }
        if let (true, Some(place)) = (entry.executable, self.place(number)) {
            make_executable(&place).map_err(|error| write_error(&place, error))?;
        }
        self.verified.insert(number);
        Ok(())
    }

    /// Puts everything in its place; says where.
    pub(crate) fn finish(self) -> Result<Vec<PathBuf>, StoreError> {
        let missing = |(number, entry): (usize, &Entry)| {
            !entry.directory && !self.verified.contains(&(number as u64))
        };
        if self.entries.iter().enumerate().any(missing) {
            return Err(StoreError::Protocol("it ended before everything was there"));
        }
        for (number, entry) in self.entries.iter().enumerate() {
            if let (true, Some(place)) = (entry.directory, self.place(number as u64)) {
                fs::create_dir_all(&place).map_err(|error| write_error(&place, error))?;
            }
        }
        let Target::Directory {
            destination,
            staging,
            names,
            replace,
            _lock,
        } = &self.target
        else {
            return Ok(Vec::new());
        };
        let mut placed = Vec::new();
        for (top, name) in names {
            let (from, to) = (staging.join("tree").join(top), destination.join(name));
            // A name that was free at the beginning may have been taken since.
            if exists(&to) && !(replace.contains(name) && to.is_file()) {
                return Err(StoreError::Exists(to));
            }
            fs::rename(&from, &to).map_err(|error| write_error(&to, error))?;
            placed.push(to);
        }
        let _ = fs::remove_dir_all(staging);
        Ok(placed)
    }
}

/// True for dangling links too.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The first name of a path.
pub(crate) fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// `photo.jpg` becomes `photo (2).jpg`.
fn free_name(directory: &Path, name: &str) -> String {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let mut number = 2_u64;
    loop {
        let free = format!("{stem} ({number}){extension}");
        if !exists(&directory.join(&free)) {
            return free;
        }
        number += 1;
    }
}

/// Reads just so many bytes.
pub(crate) fn read_into(
    reader: &mut impl Read,
    mut bytes: u64,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while bytes > 0 {
        let want = buffer
            .len()
            .min(usize::try_from(bytes).unwrap_or(usize::MAX));
        let got = reader.read(&mut buffer[..want])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(&buffer[..got]);
        bytes -= got as u64;
    }
    Ok(())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = fs::metadata(path)?.permissions();
    // Whoever may read it may execute it.
    let mode = permissions.mode();
    permissions.set_mode(mode | ((mode & 0o444) >> 2));
    fs::set_permissions(path, permissions)
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> Entry {
        Entry {
            path: path.into(),
            size: Some(size),
            directory: false,
            executable: false,
        }
    }

    fn digest(bytes: &[u8]) -> String {
        let mut digest = Digest::new();
        digest.update(bytes);
        digest.current()
    }

    #[test]
    fn a_broken_transfer_goes_on_where_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..3 * PIECE as usize + 100)
            .map(|i| (i / 3) as u8)
            .collect();
        let entries = vec![file("a/b.bin", data.len() as u64)];
        let cut = 2 * PIECE as usize + 50;
        {
            let mut store = Store::directory(directory.path(), entries.clone(), None).unwrap();
            assert!(store.have().is_empty());
            store.begin(0, 0).unwrap();
            store.write(&data[..cut]).unwrap();
        }
        assert!(!directory.path().join("a").exists());
        let mut store = Store::directory(directory.path(), entries, None).unwrap();
        let have = store.have();
        let kept = 2 * PIECE as usize;
        assert_eq!(have, [(0, kept as u64, digest(&data[..kept]))]);
        store.begin(0, kept as u64).unwrap();
        store.write(&data[kept..]).unwrap();
        store.end(0, data.len() as u64, &digest(&data)).unwrap();
        let placed = store.finish().unwrap();
        assert_eq!(placed, [directory.path().join("a")]);
        assert_eq!(fs::read(directory.path().join("a/b.bin")).unwrap(), data);
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 1, "the staging directory is gone");
    }

    #[test]
    fn what_is_damaged_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::directory(directory.path(), vec![file("a", 3)], None).unwrap();
        store.begin(0, 0).unwrap();
        store.write(b"abc").unwrap();
        assert!(matches!(
            store.end(0, 3, &digest(b"abd")),
            Err(StoreError::Damaged(_))
        ));
        assert!(store.finish().is_err());
        assert!(!directory.path().join("a").exists());
    }

    #[test]
    fn nothing_is_overwritten_unless_told() {
        let directory = tempfile::tempdir().unwrap();
        let old = directory.path().join("photo.jpg");
        fs::write(&old, "old").unwrap();
        let receive = |policy| {
            let entries = vec![file("photo.jpg", 3)];
            let mut store = Store::directory(directory.path(), entries, None)?;
            assert_eq!(store.conflicts(), std::slice::from_ref(&old));
            store.settle(policy)?;
            store.begin(0, 0)?;
            store.write(b"new")?;
            store.end(0, 3, &digest(b"new"))?;
            store.finish()
        };
        assert!(matches!(
            receive(OnConflict::Fail),
            Err(StoreError::Exists(_))
        ));
        assert_eq!(fs::read(&old).unwrap(), b"old");
        let renamed = receive(OnConflict::Rename).unwrap();
        assert_eq!(renamed, [directory.path().join("photo (2).jpg")]);
        assert_eq!(fs::read(&old).unwrap(), b"old");
        receive(OnConflict::Overwrite).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"new");
    }

    #[test]
    fn a_sender_that_breaks_the_rules_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let open = |entries| Store::directory(directory.path(), entries, None);
        assert!(matches!(
            open(vec![file("../x", 1)]),
            Err(StoreError::BadPath(_))
        ));
        assert!(matches!(
            open(vec![file("x", 1), file("x", 1)]),
            Err(StoreError::Twice(_))
        ));
        let mut store = open(vec![file("x", 1)]).unwrap();
        assert!(matches!(open(vec![file("x", 1)]), Err(StoreError::Busy(_))));
        assert!(store.write(b"a").is_err());
        assert!(store.begin(1, 0).is_err());
        assert!(store.begin(0, 1).is_err());
        store.begin(0, 0).unwrap();
        assert!(store.begin(0, 0).is_err());
        assert!(store.write(b"ab").is_err());
        assert!(store.end(0, 1, "").is_err());
    }
}
