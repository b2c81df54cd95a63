//! Frames that no exchange would send: the stored ones of `tests/frames`, broken in as many ways as `FUZZ_RUNS` says (300,000 by itself), from a seed, so that
//! what fails once fails again. None makes the producer panic, and none makes it take much more memory than it is long.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use raw_producer::deribit::history;
use raw_producer::deribit::message::{Frame, parse};

/// Memory that reading may take for each byte read: a trade is 400 bytes in memory and may be written as `{}`, when it is unreadable.
const BYTES_A_BYTE: usize = 600;

/// Counts what this thread holds, and the most that it held.
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

#[expect(unsafe_code, reason = "there is no other way to count what is allocated; it passes everything on")]
// SAFETY: both only pass on to the system's allocator what they were given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are those that the system's allocator wants.
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

/// The most that was held while it ran, in bytes.
fn most_held(work: impl FnOnce()) -> usize {
    HELD.set((0, 0));
    work();
    usize::try_from(HELD.get().1).unwrap()
}

/// Everything that may be made of a frame.
fn read(text: &str) {
    if let Ok(Frame::Response { outcome: Ok(result), .. }) = parse(text, 1) {
        history::page(result, 1).ok();
        history::time(result).ok();
        history::instruments(result).ok();
    }
}

/// splitmix64
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap()
    }

    fn span(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let (a, b) = (self.below(of.len() + 1), self.below(of.len() + 1));
        a.min(b)..a.max(b)
    }
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

fn broken(frame: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=dice.below(4) {
        let span = dice.span(&bytes);
        let at = span.start;
        match dice.below(7) {
            0 => drop(bytes.drain(span)),
            1 => drop(bytes.splice(at..at, TOKENS[dice.below(TOKENS.len())].bytes())),
            2 => drop(bytes.splice(span, TOKENS[dice.below(TOKENS.len())].bytes())),
            3 => drop(bytes.splice(span, other[dice.span(other)].iter().copied())),
            4 => bytes = [&bytes[..span.end], &bytes[at..]].concat(),
            5 => bytes = [&bytes[..at], "[".repeat(dice.below(2_000)).as_bytes(), &bytes[at..]].concat(),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
        }
    }
    bytes
}

fn stored() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn no_frame_makes_the_producer_panic_or_take_more_memory_than_it_deserves() {
    let runs = std::env::var("FUZZ_RUNS").map_or(300_000, |runs| runs.parse().unwrap());
    let frames = stored();
    for frame in &frames {
        parse(std::str::from_utf8(frame).unwrap(), 1).unwrap();
    }
    let mut dice = Dice(1);
    for run in 0..runs {
        let (frame, other) = (dice.below(frames.len()), dice.below(frames.len()));
        let bytes = broken(&frames[frame], &frames[other], &mut dice);
        // The websocket passes on nothing but UTF-8.
        let text = String::from_utf8_lossy(&bytes);
        let most = most_held(|| read(&text));
        assert!(
            most <= 4_096 + BYTES_A_BYTE * text.len(),
            "run {run}: {most} bytes for {}: {text}",
            text.len()
        );
    }
}
