//! How lines reach a sink: whole, in order, off the shard's thread, and counted where they do not.

use super::super::super::{groups::ShardCells, outcome::ResponseFlag};
use super::super::{AccessLog, AccessLogSink, Filter, Format, queue::Queues};
use super::*;
use std::{
    fs, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

const LONG: Duration = Duration::from_secs(20);

/// Logs a line with a number in it.
fn log_number(log: &super::super::AccessLogOnShard, number: u64) {
    let mut outcome = Outcome::new(UNIX_EPOCH);
    outcome.received = number;
    log.log(&Entry::new(&outcome));
}

/// Only the number.
fn numbers_only(log: AccessLog) -> AccessLog {
    log.format("%BYTES_RECEIVED%".parse().unwrap())
}

/// Whole lines only, or this panics.
fn numbers(text: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn sink(&self) -> impl FnMut(&[u8]) -> io::Result<()> + Send + use<> {
        let collected = self.clone();
        move |lines: &[u8]| {
            collected.0.lock().unwrap().extend_from_slice(lines);
            Ok(())
        }
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn several_shards_write_whole_lines_and_lose_none() {
    let collected = Collected::default();
    let log = numbers_only(AccessLog::to(collected.sink()).unwrap());
    thread::scope(|scope| {
        for shard in 0..4 {
            let log = log.clone();
            scope.spawn(move || {
                let cells = Arc::new(ShardCells::default());
                let on_shard = log.on_shard(Arc::clone(&cells));
                for number in 0..2000 {
                    log_number(&on_shard, shard * 1_000_000 + number);
                }
                assert_eq!(cells.access_log_dropped.value(), 0);
            });
        }
    });
    assert!(log.flush(LONG));
    let found = numbers(&collected.take());
    for shard in 0..4 {
        let of_shard = found.iter().filter(|number| **number / 1_000_000 == shard);
        let expected: Vec<u64> = (0..2000).map(|number| shard * 1_000_000 + number).collect();
        assert!(of_shard.eq(&expected), "the lines of a shard keep their order");
    }
}

/// The sink is blocked until the shard has logged everything: a shard that waited would wait for
/// ever.
#[test]
fn a_sink_that_is_stuck_holds_nobody_up_and_drops_are_counted() {
    let collected = Collected::default();
    let (release, released) = mpsc::channel::<()>();
    let mut collect = collected.sink();
    let log = AccessLog::to(move |lines: &[u8]| {
        let _ = released.recv();
        collect(lines)
    });
    let log = numbers_only(log.unwrap()).queue_bytes(4096);
    let cells = Arc::new(ShardCells::default());
    let on_shard = log.on_shard(Arc::clone(&cells));
    const LINES: u64 = 100_000;
    for number in 0..LINES {
        log_number(&on_shard, number);
    }
    assert!(!log.flush(Duration::from_millis(50)), "nothing can have been written");
    drop(release);
    assert!(log.flush(LONG));
    let found = numbers(&collected.take());
    let dropped = cells.access_log_dropped.value();
    assert_eq!(found.len() as u64 + dropped, LINES, "each line is written or counted");
    assert!(dropped > 0 && found.len() > 500, "{dropped} were dropped");
    assert!(found.is_sorted());
}

#[test]
fn a_line_that_never_fits_is_counted_and_the_next_one_is_written() {
    let collected = Collected::default();
    let log = AccessLog::to(collected.sink()).unwrap().queue_bytes(64);
    let cells = Arc::new(ShardCells::default());
    let on_shard = log.on_shard(Arc::clone(&cells));
    log_number(&on_shard, 1);
    assert_eq!(cells.access_log_dropped.value(), 1, "Istio's line is longer than 64 bytes");
    assert!(log.flush(LONG));
    assert_eq!(collected.take(), b"");
}

/// One line after a long silence: the writer sleeps, and is woken.
#[test]
fn a_single_line_is_written_soon() {
    let (sender, lines) = mpsc::channel();
    let sink = move |lines: &[u8]| sender.send(lines.to_vec()).map_err(io::Error::other);
    let log = numbers_only(AccessLog::to(sink).unwrap());
    let on_shard = log.on_shard(Arc::default());
    for number in 0..3 {
        // Longer than the writer lingers.
        thread::sleep(Duration::from_millis(120));
        log_number(&on_shard, number);
        assert_eq!(numbers(&lines.recv_timeout(LONG).unwrap()), [number]);
    }
}

#[test]
fn nothing_is_lost_in_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = numbers_only(AccessLog::file(&path).unwrap());
    const LINES: u64 = 20_000;
    let rotated = AtomicUsize::new(0);
    thread::scope(|scope| {
        let logging = scope.spawn(|| {
            let on_shard = log.on_shard(Arc::default());
            for number in 0..LINES {
                log_number(&on_shard, number);
                if number % 50 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        while !logging.is_finished() {
            let rotation = rotated.fetch_add(1, SeqCst);
            fs::rename(&path, folder.path().join(format!("access.log.{rotation}"))).unwrap();
            log.reopen();
            // The next rotation must find a file to move away.
            assert!(log.flush(LONG));
        }
    });
    assert!(log.flush(LONG));
    let mut found = Vec::new();
    let mut files = 0;
    for rotation in 0..rotated.load(SeqCst) {
        let text = fs::read(folder.path().join(format!("access.log.{rotation}"))).unwrap();
        files += usize::from(!text.is_empty());
        found.extend(numbers(&text));
    }
    found.extend(numbers(&fs::read(&path).unwrap()));
    assert!(files > 1, "lines fell on both sides of a rotation");
    assert!(found.into_iter().eq(0..LINES), "every line is there once, in order");
}

#[test]
fn where_reopening_fails_the_old_file_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = numbers_only(AccessLog::file(&path).unwrap());
    let on_shard = log.on_shard(Arc::default());
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    log.reopen();
    log_number(&on_shard, 7);
    assert!(log.flush(LONG));
    assert_eq!(numbers(&fs::read(&moved).unwrap()), [7]);
    assert!(AccessLog::file(&path).is_err(), "a folder is no file");
}

/// A disk that is full in the middle of a line, until it is replaced.
struct FullDisk {
    full: Arc<AtomicBool>,
    old: Collected,
    new: Collected,
    room: usize,
    reopened: bool,
}

impl AccessLogSink for FullDisk {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let file = if self.reopened { &self.new } else { &self.old };
        let taken = match self.full.load(SeqCst) && !self.reopened {
            true => lines.len().min(self.room),
            false => lines.len(),
        };
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room = self.room.saturating_sub(taken);
        file.0.lock().unwrap().extend_from_slice(&lines[..taken]);
        Ok(taken)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.reopened = true;
        Ok(())
    }
}

fn full_disk(room: usize) -> (AccessLog, Arc<AtomicBool>, Collected, Collected) {
    let full = Arc::new(AtomicBool::new(true));
    let (old, new) = (Collected::default(), Collected::default());
    let (full2, old2, new2) = (Arc::clone(&full), old.clone(), new.clone());
    let sink = FullDisk { full: full2, old: old2, new: new2, room, reopened: false };
    (numbers_only(AccessLog::to(sink).unwrap()), full, old, new)
}

#[test]
fn a_sink_that_failed_gets_the_rest_of_the_line_later() {
    let (log, full, old, _) = full_disk(6);
    let on_shard = log.on_shard(Arc::default());
    (1000..1010).for_each(|number| log_number(&on_shard, number));
    assert!(!log.flush(Duration::from_millis(300)));
    assert!(log.failed_writes() > 1, "it is tried again");
    full.store(false, SeqCst);
    assert!(log.flush(LONG));
    assert!(numbers(&old.take()).into_iter().eq(1000..1010));
}

#[test]
fn a_line_torn_by_a_full_disk_is_whole_in_the_file_opened_next() {
    let (log, _, old, new) = full_disk(7);
    let on_shard = log.on_shard(Arc::default());
    (1000..1010).for_each(|number| log_number(&on_shard, number));
    assert!(!log.flush(Duration::from_millis(200)));
    log.reopen();
    assert!(log.flush(LONG));
    assert_eq!(old.take(), b"1000\n10");
    assert!(numbers(&new.take()).into_iter().eq(1001..1010));
}

#[test]
fn a_sink_that_panics_has_failed_once() {
    let collected = Collected::default();
    let mut collect = collected.sink();
    let mut panics = 1;
    let log = AccessLog::to(move |lines: &[u8]| {
        panics -= 1;
        assert!(panics < 0, "the test's sink panics once");
        collect(lines)
    });
    let log = numbers_only(log.unwrap());
    let on_shard = log.on_shard(Arc::default());
    log_number(&on_shard, 5);
    assert!(log.flush(LONG));
    assert_eq!(numbers(&collected.take()), [5]);
    assert_eq!(log.failed_writes(), 1);
}

#[test]
fn what_was_logged_is_written_after_the_log_was_dropped() {
    let (sender, lines) = mpsc::channel();
    let sink = move |lines: &[u8]| sender.send(lines.to_vec()).map_err(io::Error::other);
    let log = numbers_only(AccessLog::to(sink).unwrap());
    let on_shard = log.on_shard(Arc::default());
    log_number(&on_shard, 1);
    drop(log);
    log_number(&on_shard, 2);
    drop(on_shard);
    // The channel ends when the thread drops the sink.
    let written: Vec<u8> = lines.iter().flatten().collect();
    assert_eq!(numbers(&written), [1, 2]);
}

#[test]
fn logs_of_one_sink_share_a_queue_and_differ_in_format_and_filter() {
    let collected = Collected::default();
    let all = numbers_only(AccessLog::to(collected.sink()).unwrap());
    let errors = all.clone().format("error %RESPONSE_CODE%".parse::<Format>().unwrap());
    let errors = errors.filter(Filter::all().errors());
    let queues = Queues::default();
    let logs = [all, errors];
    let [all, errors] = [0, 1].map(|log| queues.join(&logs[log], Arc::default()));
    let mut outcome = Outcome::new(UNIX_EPOCH);
    for (status, flag) in [(200, ResponseFlag::None), (503, ResponseFlag::UpstreamOverflow)] {
        (outcome.status, outcome.flag) = (status, flag);
        outcome.received = u64::from(status);
        all.log(&Entry::new(&outcome));
        errors.log(&Entry::new(&outcome));
    }
    drop(errors);
    log_number(&all, 1);
    drop((logs, all));
    let text = eventually(&collected);
    assert_eq!(text, "200\n503\nerror 503\n1\n", "one queue keeps the order");
}

/// What was collected once the log's thread has ended, which drops its sink.
fn eventually(collected: &Collected) -> String {
    let deadline = std::time::Instant::now() + LONG;
    while Arc::strong_count(&collected.0) > 1 {
        assert!(std::time::Instant::now() < deadline, "the thread does not end");
        thread::sleep(Duration::from_millis(2));
    }
    String::from_utf8(collected.take()).unwrap()
}

#[test]
fn a_sample_is_about_its_fraction() {
    let collected = Collected::default();
    let log = numbers_only(AccessLog::to(collected.sink()).unwrap());
    let log = log.filter(Filter::all().sample(0.25));
    let on_shard = log.on_shard(Arc::default());
    (0..10_000).for_each(|number| log_number(&on_shard, number));
    assert!(log.flush(LONG));
    let kept = numbers(&collected.take()).len();
    // Seven standard deviations to either side.
    assert!((2200..2800).contains(&kept), "{kept} of 10000");
}
