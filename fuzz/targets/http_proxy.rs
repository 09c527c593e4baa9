//! A client's connection through the whole proxy, on the simulated driver of the tests: the client's bytes, the
//! origin's answers, and how both are cut, all come from the input. What must hold, and what an input looks like, is
//! in `src/simulation/http/raw.rs`.
#![no_main]

use evenkeel::fuzzing::http_proxy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| http_proxy(input));
