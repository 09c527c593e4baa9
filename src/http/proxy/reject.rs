//! The metric's label of each reason to refuse a request.

use crate::telemetry::HttpReject;

/// The label of a reason, as `h1` and `route` name them.
pub(super) fn label(reason: &str) -> HttpReject {
    match reason {
        "invalid_request_line" | "invalid_target" => HttpReject::RequestLine,
        "unsupported_version" => HttpReject::Version,
        "connect_not_enabled" => HttpReject::Method,
        "missing_host" | "repeated_host" | "invalid_host" => HttpReject::Host,
        "unknown_expectation" => HttpReject::Expectation,
        "target_too_long" => HttpReject::TargetTooLong,
        "too_many_fields" | "head_too_large" => HttpReject::HeadTooLarge,
        "unknown_transfer_coding" => HttpReject::Coding,
        "invalid_content_length"
        | "repeated_content_length"
        | "invalid_transfer_encoding"
        | "transfer_encoding_in_http_1_0"
        | "content_length_and_transfer_encoding" => HttpReject::Framing,
        "invalid_line_end"
        | "invalid_field_name"
        | "invalid_field_value"
        | "invalid_connection" => HttpReject::Field,
        "body_too_large" => HttpReject::BodyTooLarge,
        "head_timeout" => HttpReject::HeadTimeout,
        "body_timeout" => HttpReject::BodyTimeout,
        reason if reason.starts_with("path_") => HttpReject::Path,
        reason if reason.contains("chunk") || reason.contains("trailer") => HttpReject::Chunk,
        _ => HttpReject::Other,
    }
}
