//! The way of the records to standard output: one buffer, one thread.
//!
//! Callers append whole lines to a shared buffer; the thread takes all of it at once and writes it with one call. A
//! first line waits up to [`LINGER`] for company, so that a busy service pays one system call and one wake-up for
//! many records. The buffer is bounded: when it is full the caller waits, a record is never dropped while the output
//! can be written. Output that cannot be written (a closed pipe) is counted in `staffetta_log_write_errors_total` and
//! given up, because a relay that stops for lack of a log reader would be worse.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{Counter, counter, describe_counter};

/// Octets that may wait; above it callers block.
const LIMIT: usize = 4 << 20;
/// Octets worth a write of their own.
const BATCH: usize = 64 << 10;
/// Longest wait of a record for others.
const LINGER: Duration = Duration::from_millis(5);
/// Pause before a non-blocking output is tried again.
const RETRY: Duration = Duration::from_millis(5);

const WRITE_ERRORS: &str = "staffetta_log_write_errors_total";
const STALLS: &str = "staffetta_log_stalls_total";

/// Failed writes, and waits for the reader.
pub(super) fn declare() -> (Counter, Counter) {
    describe_counter!(WRITE_ERRORS, "Writes of the mail log that failed; the records in them are lost.");
    describe_counter!(STALLS, "Times that a service waited because the mail log was not read fast enough.");
    (counter!(WRITE_ERRORS), counter!(STALLS))
}

/// The shared end: cheap to clone, safe to use from any thread.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// The writer waits here for lines.
    work: Condvar,
    /// Callers wait here for room.
    room: Condvar,
    /// `flush` waits here.
    written: Condvar,
    stalls: Counter,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// The writer sleeps until somebody wakes it.
    asleep: bool,
    /// Somebody waits for the writer: do not linger.
    hurry: bool,
    /// Octets ever queued.
    queued: u64,
    /// Octets ever written, or given up.
    done: u64,
}

impl Sink {
    /// Starts the writer thread.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (errors, stalls) = declare();
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            written: Condvar::new(),
            stalls,
        };
        let sink = Self(Arc::new(shared));
        let writer = sink.clone();
        thread::Builder::new().name("maillog".into()).spawn(move || writer.run(output, &errors))?;
        Ok(sink)
    }

    /// Queues one or more whole lines; waits while the buffer is full.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut queue = self.lock();
        if queue.lines.len() >= LIMIT {
            self.0.stalls.increment(1);
            queue = self.0.room.wait_while(queue, |q| q.lines.len() >= LIMIT).unwrap_or_else(PoisonError::into_inner);
        }
        let before = queue.lines.len();
        queue.lines.extend_from_slice(lines);
        queue.queued += lines.len() as u64;
        let full_batch = before < BATCH && queue.lines.len() >= BATCH;
        if queue.asleep || full_batch {
            queue.asleep = false;
            self.0.work.notify_one();
        }
    }

    /// Waits until everything queued so far is written; false if that took longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut queue = self.lock();
        let target = queue.queued;
        if queue.done >= target {
            return true;
        }
        queue.hurry = true;
        queue.asleep = false;
        self.0.work.notify_one();
        let waited = self.0.written.wait_timeout_while(queue, patience, |q| q.done < target);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.done >= target
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut output: impl Write, errors: &Counter) {
        let mut batch = Vec::new();
        let mut complained = false;
        loop {
            self.take(&mut batch);
            if let Err(error) = write_patiently(&mut output, &batch) {
                errors.increment(1);
                if !complained {
                    tracing::error!(%error, "the mail log cannot be written; its records are lost");
                }
                complained = true;
            }
            self.lock().done += batch.len() as u64;
            self.0.written.notify_all();
            batch.clear();
            // One burst should not cost its memory for ever.
            batch.shrink_to(2 * BATCH);
        }
    }

    /// Swaps everything that waits into the empty `batch`; sleeps while nothing does.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut queue = self.lock();
        queue.asleep = queue.lines.is_empty();
        while queue.lines.is_empty() {
            queue = self.0.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.asleep = false;
        let until = Instant::now() + LINGER;
        while queue.lines.len() < BATCH && !queue.hurry {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (queue, _) = self.0.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
        queue.hurry = false;
        std::mem::swap(&mut queue.lines, batch);
        self.0.room.notify_all();
    }
}

/// Writes it all, also to an output that somebody made non-blocking.
fn write_patiently(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Hands every write to the test; fails when the test does not listen any more.
    struct Channel(mpsc::SyncSender<Vec<u8>>);

    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_whole_in_order_and_together() {
        let (sender, receiver) = mpsc::sync_channel(1 << 20);
        let sink = Sink::start(Channel(sender)).unwrap();
        for i in 0..10_000 {
            sink.push(format!("line {i}\n").as_bytes());
        }
        assert!(sink.flush(PATIENCE));
        let writes: Vec<Vec<u8>> = receiver.try_iter().collect();
        assert!(writes.len() < 1000, "{} writes for 10,000 lines", writes.len());
        let text = String::from_utf8(writes.concat()).unwrap();
        assert!(text.lines().enumerate().all(|(i, line)| line == format!("line {i}")));
        assert_eq!(text.lines().count(), 10_000);
    }

    #[test]
    fn a_full_buffer_blocks_and_loses_nothing() {
        // No room in the channel: the writer stands still until the test reads.
        let (sender, receiver) = mpsc::sync_channel(0);
        let sink = Sink::start(Channel(sender)).unwrap();
        let (blocked, line) = (sink.clone(), vec![b'x'; 1 << 20]);
        let producer = thread::spawn(move || (0..12).for_each(|_| blocked.push(&line)));
        let mut received = 0;
        while received < 12 << 20 {
            received += receiver.recv_timeout(PATIENCE).unwrap().len();
            assert!(sink.lock().lines.len() <= LIMIT + (1 << 20));
        }
        producer.join().unwrap();
    }

    #[test]
    fn a_closed_output_does_not_stop_the_service() {
        let (sender, receiver) = mpsc::sync_channel(0);
        drop(receiver);
        let sink = Sink::start(Channel(sender)).unwrap();
        for _ in 0..3 {
            sink.push(&vec![b'x'; LIMIT]);
        }
        assert!(sink.flush(PATIENCE));
    }
}
