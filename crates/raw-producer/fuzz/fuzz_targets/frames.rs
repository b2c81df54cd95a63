//! The fuzz target of `read.rs` for libFuzzer.
//!
//! Of the producer only the files that read frames are compiled: librdkafka and the rest, built anew for each sort of coverage, would take
//! minutes. They find each other by the names that they know.

#![no_main]
#![allow(dead_code, reason = "the files have more than is read here")]

extern crate self as common;
extern crate self as raw_producer;

#[path = "../../../common/src/model.rs"]
pub mod model;

pub mod clock {
    pub type ExchangeTime = i64;
}

#[path = "../../src/deribit"]
pub mod deribit {
    pub mod history;
    pub mod message;
}

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::frame(bytes));
