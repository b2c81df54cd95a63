//! The fuzz target of `read.rs` for libFuzzer.
//!
//! It compiles only the producer's files that parse frames. With librdkafka and the rest, each kind of coverage would take minutes to build.
//! The modules below make the files' imports resolve.

#![no_main]
#![allow(dead_code, reason = "the target uses only the parsers")]

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
    mod rpc;
    mod wire_trade;
}

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::frame(bytes));
