//! A client of a listener that takes both TLS and plaintext, through the real detection, on the simulated driver of
//! the tests. What must hold, and what an input looks like, is in `src/simulation/permissive.rs`.
#![no_main]

use evenkeel::fuzzing::permissive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| permissive(input));
