//! What a relay may use: budgets that a change must not exceed, measured on a process of its own.
//!
//! Each budget lies some way above what was measured, so that it fails for a cost that was added and
//! not for the weather. None of them is a time.

#[path = "stage/alone.rs"]
mod alone;
#[cfg(feature = "http")]
#[path = "budgets/http_allocations.rs"]
mod http_allocations;
#[cfg(feature = "http")]
#[path = "budgets/http_memory.rs"]
mod http_memory;
#[path = "budgets/locked_memory.rs"]
mod locked_memory;
#[path = "budgets/memory.rs"]
mod memory;
#[path = "budgets/process.rs"]
mod process;
#[path = "budgets/system_calls.rs"]
mod system_calls;
#[path = "budgets/ten_thousand.rs"]
mod ten_thousand;
#[cfg(feature = "tls")]
#[path = "budgets/tls_memory.rs"]
mod tls_memory;
#[path = "budgets/traffic.rs"]
mod traffic;
#[path = "budgets/workers.rs"]
mod workers;
