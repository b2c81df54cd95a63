//! deribit-sim
