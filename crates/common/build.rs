//! Puts the git revision into `KSTREAM_REVISION`, for `--version`.
//!
//! The variable may also be set for the build, as where there is no `.git`. Otherwise only a release build asks git: a debug build would be
//! compiled again after every commit.

use std::path::{Path, PathBuf};
use std::process::Command;

const VARIABLE: &str = "KSTREAM_REVISION";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var(VARIABLE).ok().filter(|revision| !revision.is_empty());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(revision) = given.or_else(|| if is_release { of_checkout() } else { None }) {
        println!("cargo::rustc-env={VARIABLE}={revision}");
    }
}

/// The revision of this workspace's own checkout; `None` in a tarball, even if that lies in another checkout.
fn of_checkout() -> Option<String> {
    let workspace =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").ok()?).join("../..").canonicalize().ok()?;
    let top = PathBuf::from(git(&workspace, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != workspace {
        return None;
    }
    // Every commit and every checkout writes to one of them.
    for file in ["HEAD", "logs/HEAD"] {
        let path = workspace.join(git(&workspace, &["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&workspace, &["rev-parse", "--short=12", "HEAD"])
}

fn git(workspace: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(workspace).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
