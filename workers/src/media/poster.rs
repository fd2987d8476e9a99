//! The poster of a film: its first picture, taken out by ffmpeg where that is installed.
//!
//! The program runs as a child process that may read one file and nothing else, and is told what the file is, so that no film
//! makes it open another. A poster is an extra: whatever goes wrong, the film is as good without one. Deliberately absent: any
//! choice of the moment, and any other use of the program.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempPath;
use tokio::process::Command;

/// The program's name.
pub const PROGRAM: &str = "ffmpeg";

/// What the program calls the container that a film comes in.
const DEMUXER: &str = "mov";

/// Longest time for one picture. The first of a film of many gigabytes is as near as that of a short one.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Takes the first picture out of the MP4 at `path`: a PNG that goes with its path.
///
/// # Errors
/// Why there is none, in words: the program is not here, takes too long or makes nothing of the film.
pub async fn poster(program: &Path, path: &Path) -> Result<TempPath, String> {
    let picture = tempfile::Builder::new().suffix(".png").tempfile().map_err(|error| error.to_string())?;
    let picture = picture.into_temp_path();
    let child = Command::new(program)
        .args(["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-f", DEMUXER, "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-frames:v", "1", "-c:v", "png", "-f", "image2", "-update", "1", "-y"])
        .arg(&picture)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| error.to_string())?;
    let ended = tokio::time::timeout(TIMEOUT, child.wait_with_output()).await;
    let ended =
        ended.map_err(|_| format!("it took more than {TIMEOUT:?}"))?.map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(picture);
    }
    let words: String = String::from_utf8_lossy(&ended.stderr).chars().take(200).collect();
    Err(format!("it ended with {}: {}", ended.status, words.trim()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    /// A program in a folder of its own that does what `script` says.
    fn program(script: &str) -> (TempDir, std::path::PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("drawer");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn the_film_goes_in_by_its_kind_and_a_picture_comes_out() {
        // The last argument is the picture; how the film was to be read is written into it.
        let (dir, path) = program("for last; do :; done; echo \"$4 $5 $6 $7 $8 $9\" > \"$last\"");
        let film = dir.path().join("film");
        let picture = poster(&path, &film).await.unwrap();
        let told = fs::read_to_string(&picture).unwrap();
        assert_eq!(told, format!("-protocol_whitelist file -f mov -i {}\n", film.display()));
        let there = picture.to_path_buf();
        drop(picture);
        assert!(!there.exists());
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_in_words() {
        let film = Path::new("/nowhere/film.mp4");
        let missing = poster(Path::new("/nowhere/ffmpeg"), film).await.unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
        let (_dir, path) = program("echo no frame >&2; exit 1");
        let failed = poster(&path, film).await.unwrap_err();
        assert!(failed.contains("no frame"), "{failed}");
    }
}
