//! Windows over event time and their arithmetic. Pure: no I/O, no clock.

pub mod average;
pub mod exp;
pub mod instrument_slices;
pub mod slice;
pub mod time_windows;
pub mod weights;
