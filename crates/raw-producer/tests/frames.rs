//! Frames that no exchange would send: a corpus, and variations of it for `FUZZ_FOR` (default: 10 s). No frame makes the producer panic or use
//! much more memory than its own length.
//!
//! The corpus is `tests/frames`, written by hand, and `fuzz/corpus/frames`, found by libFuzzer (docs/adr/0035). The test prints a frame that
//! fails. Store it there: stored frames are tried first.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "a test may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use raw_producer::deribit::message::parse;

#[path = "../fuzz/read.rs"]
mod read;

const BY_HAND: &str = "tests/frames";
const FOUND: &str = "fuzz/corpus/frames";

/// The most bytes of memory for each byte parsed: an unreadable trade takes 400 in memory, and can be as short as `0,`.
const BYTES_A_BYTE: usize = 250;

/// Counts the bytes that this thread has allocated, and their maximum.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    let add = |held: &Cell<(isize, isize)>| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    };
    HELD.try_with(add).ok();
}

#[expect(unsafe_code, reason = "there is no other way to count allocations; it delegates everything")]
// SAFETY: both only delegate to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the promises that the system's allocator needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Prints the frame if parsing it panics.
struct Reading<'a>(&'a [u8]);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while parsing: {}", self.0.escape_ascii());
        }
    }
}

fn try_frame(frame: &[u8]) {
    let _reading = Reading(frame);
    HELD.set((0, 0));
    read::frame(frame);
    let most = usize::try_from(HELD.get().1).unwrap();
    let allowed = 4_096 + BYTES_A_BYTE * frame.len();
    assert!(most <= allowed, "{most} bytes of memory for {} of a frame", frame.len());
}

const TOKENS: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-",
    "0",
    "1e999",
    "-9223372036854775809",
    "18446744073709551616",
    "0.1e-400",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{1f600}",
    "\"trades\":[{},{},{}]",
    "\"method\":\"subscription\"",
    "\"id\":1",
];

fn span(of: &[u8], rng: &mut Rng) -> std::ops::Range<usize> {
    let (a, b) = (rng.usize(..=of.len()), rng.usize(..=of.len()));
    a.min(b)..a.max(b)
}

fn varied(frame: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..rng.u32(1..=5) {
        let span = span(&bytes, rng);
        let at = span.start;
        match rng.u32(..7) {
            0 => drop(bytes.drain(span)),
            1 => drop(bytes.splice(at..at, rng.choice(TOKENS).unwrap().bytes())),
            2 => drop(bytes.splice(span, rng.choice(TOKENS).unwrap().bytes())),
            3 => drop(bytes.splice(span, other[self::span(other, rng)].iter().copied())),
            4 => bytes = [&bytes[..span.end], &bytes[at..]].concat(),
            5 => bytes = [&bytes[..at], "[".repeat(rng.usize(..2_000)).as_bytes(), &bytes[at..]].concat(),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u32(..8)),
        }
    }
    bytes
}

fn stored(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn every_frame_by_hand_is_parsed() {
    for frame in stored(BY_HAND) {
        parse(std::str::from_utf8(&frame).unwrap(), 1).unwrap();
    }
}

#[test]
fn no_frame_makes_the_producer_panic_or_use_too_much_memory() {
    let asked = std::env::var("FUZZ_FOR").ok();
    let time = asked.map_or(Duration::from_secs(10), |asked| humantime::parse_duration(&asked).unwrap());
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    let frames = [stored(BY_HAND), stored(FOUND)].concat();
    for frame in &frames {
        try_frame(frame);
    }
    let (mut rng, mut runs, begun) = (Rng::with_seed(seed), 0_u64, Instant::now());
    while begun.elapsed() < time {
        let (frame, other) = (rng.choice(&frames).unwrap(), rng.choice(&frames).unwrap());
        try_frame(&varied(frame, other, &mut rng));
        runs += 1;
    }
    println!("{} stored frames, {runs} varied ones, SEED={seed}", frames.len());
}
