//! A folder for one run.

use std::path::{Path, PathBuf};

use sunseo_proto::clock::{Clock as _, SystemClock};

/// Removed with everything in it when it is dropped, unless it is kept.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new folder among the system's temporary ones.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(purpose: &str, keep: bool) -> std::io::Result<Self> {
        let name = format!("sunseo-{purpose}-{}-{}", std::process::id(), SystemClock.now_ms());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, keep })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the temporary folder stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn the_folder_goes_with_its_owner_unless_it_is_kept() {
        let scratch = Scratch::create("test-removed", false).unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
        let kept = Scratch::create("test-kept", true).unwrap();
        let path = kept.path().to_owned();
        drop(kept);
        assert!(path.exists());
        std::fs::remove_dir_all(path).unwrap();
    }
}
