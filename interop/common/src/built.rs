//! What the tests run that this repository builds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of what is built.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The binary `visavis`, built once if it is not up to date. `VISAVIS_BINARY` names one that is built already.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("VISAVIS_BINARY") {
                return path.into();
            }
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            // What cargo told the tests about their package is not for others: build scripts look at it.
            for (name, _) in std::env::vars_os() {
                let text = name.to_string_lossy();
                if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                    build.env_remove(&name);
                }
            }
            let status = build
                .current_dir(root())
                .args(["build", "--quiet", "--offline", "--package", "visavis-cli"])
                .status()
                .expect("cargo starts");
            assert!(status.success(), "visavis builds");
            target().join("debug/visavis")
        })
        .clone()
}

/// The repository, with no `..` in its path: Chromium reads no file that is named so.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        root.canonicalize().expect("the repository is there")
    })
}
