//! The sidecar: a transparent relay for the traffic that iptables hands it.

mod iptables;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(command) if command == "iptables" => iptables::main(arguments),
        _ => {
            eprintln!("usage: sidecar iptables print|apply|remove [OPTION]...");
            ExitCode::from(2)
        }
    }
}
