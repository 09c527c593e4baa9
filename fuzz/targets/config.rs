//! Any text is taken for a configuration, and then reads back as the same, or is refused with a place.
#![no_main]

#[expect(dead_code, reason = "a module of the sidecar, of which this uses a part")]
#[path = "../../examples/sidecar/config/mod.rs"]
mod config;

use std::path::Path;

use config::{Host, Loaded, parse, reload_refusals};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let host = Host {
        own_address: |_| false,
        network_admin: false,
        cpus: vec![0, 1],
        certificates: false,
    };
    let read = |text: &str| parse(text, Path::new("f"), Path::new("/etc"), &host);
    match read(text) {
        Ok(Loaded { config, .. }) => {
            assert!(config.dump().is_ok());
            let printed = config.to_toml().expect("a configuration prints");
            let again = read(&printed).expect("what is printed reads back").config;
            assert_eq!(again, config);
            assert!(reload_refusals(&config, &again).is_empty());
        }
        Err(problems) => {
            let problems = problems.to_string();
            assert!(problems.contains(": error: "), "{problems}");
            // Each on one line, with its place.
            assert!(
                problems.split_terminator('\n').all(|line| line.starts_with("f:")),
                "{problems}"
            );
        }
    }
});
