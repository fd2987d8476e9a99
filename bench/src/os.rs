//! What the system knows: processor time and memory of processes, and what machine this is.
//!
//! Read from `/proc`; elsewhere than on Linux the figures are zero, the rates still right.

use std::{fs, path::Path, time::Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// Clock ticks a second in `/proc`, fixed by Linux for programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// The parent of a process and the seconds of processor time of it and of the children it has waited for.
fn stat(pid: u32) -> Option<(u32, f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; after it the fields are numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let parent = fields.get(1)?.parse().ok()?;
    Some((parent, (ticks(11) + ticks(12)) / TICKS_PER_SECOND, (ticks(13) + ticks(14)) / TICKS_PER_SECOND))
}

/// Processor seconds of a process so far.
pub fn cpu_of(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |(_, own, _)| own)
}

/// The parent of a process.
pub fn parent_of(pid: u32) -> Option<u32> {
    stat(pid).map(|(parent, ..)| parent)
}

/// Processor seconds of a process and of all children it ever had.
pub fn cpu_of_family(head: u32) -> f64 {
    let Some((_, own, gone)) = stat(head) else { return 0.0 };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(stat);
    own + gone + children.filter(|(parent, ..)| *parent == head).map(|(_, own, _)| own).sum::<f64>()
}

/// Processor seconds of the calling thread.
pub fn cpu_of_this_thread() -> f64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

/// Seconds that all processors together have had nothing to do.
pub fn idle_seconds() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|idle| idle.parse().ok()).unwrap_or(0.0)
}

/// Processors of this machine.
pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1, usize::from) as f64
}

/// Highest resident memory of a process so far, in MB.
pub fn peak_rss_mb(pid: u32) -> f64 {
    status_mb(pid, "VmHWM:")
}

/// Resident memory of a process now, in MB.
pub fn rss_mb(pid: u32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// A size that the system knows of a process, in MB.
fn status_mb(pid: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib =
        line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// Processor, cores, memory and kernel.
pub fn machine() -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| {
        line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
    });
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<f64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": model.unwrap_or_else(|| "unknown".into()),
        "cores": cores() as u32,
        "memory_gb": (memory.unwrap_or(0.0) * 1024.0 / 1e9).round(),
        "kernel": kernel.trim(),
    })
}

/// Durable flushes a second of one writer: 8 kB written over and over in `folder`, each time with `fdatasync`, for a second.
pub fn flush_rate(folder: &Path) -> std::io::Result<f64> {
    use std::os::unix::fs::FileExt;
    let file = tempfile(folder)?;
    let page = [7_u8; 8192];
    file.write_all_at(&[7_u8; 1 << 20], 0)?;
    file.sync_data()?;
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed().as_secs_f64() < 1.0 {
        file.write_all_at(&page, u64::from(count % 128) * 8192)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// A file without a name that nobody has to delete.
fn tempfile(folder: &Path) -> std::io::Result<fs::File> {
    let path = folder.join("flush.tmp");
    let file = fs::File::create(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}
