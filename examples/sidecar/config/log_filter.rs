//! What is wrong with a log filter that parses: in a filter, a misspelt level is the name of a module.

use super::nearest::did_you_mean;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Says which word of a filter stands alone and is no level; `None` if there is none.
pub(crate) fn misspelt_level(filter: &str) -> Option<String> {
    let word = filter.split(',').map(str::trim).find(|word| {
        !LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            && !word.contains(['=', '[', ':'])
    })?;
    let near = did_you_mean(&word.to_ascii_lowercase(), LEVELS);
    Some(format!(
        "\"{word}\" is no level: off, error, warn, info, debug or trace{near} (a module stands \
         with its level, as in \"evenkeel=debug\")"
    ))
}
