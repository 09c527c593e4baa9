//! Why a head is refused: each reason with the one status that it is answered with.

use http::StatusCode;
use std::fmt;

/// What is wrong with the fields of a message, be it a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldError {
    /// A line that does not end in CRLF, or a CR inside a line.
    LineEnd,
    /// A name that is empty or no token, a line without a colon, white space before the colon, or a
    /// folded line.
    Name,
    /// A control character in a value.
    Value,
    /// More fields than are taken.
    TooMany,
    /// More bytes than are taken.
    TooLarge,
    /// `Content-Length` is not one number of digits that fits 64 bits.
    ContentLength,
    /// `Content-Length` came twice, even with the same value.
    RepeatedContentLength,
    /// `Transfer-Encoding` is not one line with codings whose only and last `chunked` ends it.
    TransferEncoding,
    /// `Transfer-Encoding` names another coding than `chunked`.
    TransferCoding,
    /// `Transfer-Encoding` in HTTP/1.0, which does not know it.
    TransferEncodingInHttp10,
    /// `Transfer-Encoding` and `Content-Length` together.
    TwoLengths,
    /// `Connection` holds something that is no option, or more than 32 of them.
    Connection,
}

impl FieldError {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::LineEnd => "invalid_line_end",
            Self::Name => "invalid_field_name",
            Self::Value => "invalid_field_value",
            Self::TooMany => "too_many_fields",
            Self::TooLarge => "head_too_large",
            Self::ContentLength => "invalid_content_length",
            Self::RepeatedContentLength => "repeated_content_length",
            Self::TransferEncoding => "invalid_transfer_encoding",
            Self::TransferCoding => "unknown_transfer_coding",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http_1_0",
            Self::TwoLengths => "content_length_and_transfer_encoding",
            Self::Connection => "invalid_connection",
        }
    }

    fn request_status(self) -> StatusCode {
        match self {
            Self::TooMany | Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineEnd => "a line of the head does not end in CRLF, or has a lone CR in it",
            Self::Name => "a line of the head is no field: name, colon, value",
            Self::Value => "the value of a field holds a control character",
            Self::TooMany => "the head has more fields than are taken",
            Self::TooLarge => "the head has more bytes than are taken",
            Self::ContentLength => "Content-Length is no number of digits within 64 bits",
            Self::RepeatedContentLength => "Content-Length came more than once",
            Self::TransferEncoding => "Transfer-Encoding is malformed or does not end in chunked",
            Self::TransferCoding => "Transfer-Encoding names another coding than chunked",
            Self::TransferEncodingInHttp10 => "Transfer-Encoding in a message of HTTP/1.0",
            Self::TwoLengths => "both Content-Length and Transfer-Encoding",
            Self::Connection => "Connection is malformed or has more than 32 options",
        })
    }
}

impl std::error::Error for FieldError {}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The first line is not a method, a target and a version with one space between them.
    RequestLine,
    /// The target has a form that the method does not take, or a byte that no target has.
    Target,
    /// The first line alone fills all that a head may have.
    TargetTooLong,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    Version,
    /// CONNECT, which is off.
    Connect,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// More than one `Host`.
    RepeatedHost,
    /// `Host` is not a host with or without a port.
    Host,
    /// `Expect` asks for something else than `100-continue`.
    Expectation,
    /// What is wrong is in the fields.
    Field(FieldError),
}

impl RequestError {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Field(error) => error.request_status(),
            Self::RequestLine
            | Self::Target
            | Self::MissingHost
            | Self::RepeatedHost
            | Self::Host => StatusCode::BAD_REQUEST,
        }
    }

    /// A stable name for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "invalid_request_line",
            Self::Target => "invalid_target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "unsupported_version",
            Self::Connect => "connect_not_enabled",
            Self::MissingHost => "missing_host",
            Self::RepeatedHost => "repeated_host",
            Self::Host => "invalid_host",
            Self::Expectation => "unknown_expectation",
            Self::Field(error) => error.reason(),
        }
    }
}

impl From<FieldError> for RequestError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line is not `method target version`",
            Self::Target => "the target of the request is malformed, or not one for its method",
            Self::TargetTooLong => "the request line is longer than a head may be",
            Self::Version => "the request is not in HTTP/1.0 or HTTP/1.1",
            Self::Connect => "CONNECT is not enabled",
            Self::MissingHost => "a request in HTTP/1.1 without Host",
            Self::RepeatedHost => "more than one Host",
            Self::Host => "Host is not `host` or `host:port`",
            Self::Expectation => "Expect asks for something else than 100-continue",
            Self::Field(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for RequestError {}

/// Why a response is refused. The client gets a 502 for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// The first line is not a version, a status and a reason.
    StatusLine,
    /// The status is not from 100 to 599.
    Status,
    /// Another version than HTTP/1.0 and HTTP/1.1, or no HTTP at all.
    Version,
    /// What is wrong is in the fields.
    Field(FieldError),
}

impl ResponseError {
    /// The status of the answer that the client gets: 502.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::BAD_GATEWAY
    }

    /// A stable name for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::StatusLine => "invalid_status_line",
            Self::Status => "invalid_status",
            Self::Version => "unsupported_version",
            Self::Field(error) => error.reason(),
        }
    }
}

impl From<FieldError> for ResponseError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatusLine => "the status line is not `version status reason`",
            Self::Status => "the status is not from 100 to 599",
            Self::Version => "the response is not in HTTP/1.0 or HTTP/1.1",
            Self::Field(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for ResponseError {}

/// Why the body of a message cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The size of a chunk is not one to 16 hexadecimal digits and CRLF.
    ChunkSize,
    /// An extension of a chunk is malformed, or has a quoted value.
    ChunkExtension,
    /// The extensions of the chunks outweigh the data.
    ExtensionsTooLong,
    /// The data of a chunk is not followed by CRLF.
    ChunkEnd,
    /// What is wrong is in the trailers.
    Trailers(FieldError),
    /// The connection ended before the body did.
    Truncated,
}

impl BodyError {
    /// The status of the answer if the body is that of a request. A client whose request was fine gets
    /// a 502, or a truncated answer if its head is out already.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Trailers(error) => error.request_status(),
            Self::ChunkSize
            | Self::ChunkExtension
            | Self::ExtensionsTooLong
            | Self::ChunkEnd
            | Self::Truncated => StatusCode::BAD_REQUEST,
        }
    }

    /// A stable name for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ChunkSize => "invalid_chunk_size",
            Self::ChunkExtension => "invalid_chunk_extension",
            Self::ExtensionsTooLong => "chunk_extensions_too_long",
            Self::ChunkEnd => "invalid_chunk_end",
            Self::Trailers(FieldError::TooLarge) => "trailers_too_large",
            Self::Trailers(FieldError::TooMany) => "too_many_trailers",
            Self::Trailers(_) => "invalid_trailer",
            Self::Truncated => "truncated_body",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChunkSize => "the size of a chunk is not 1 to 16 hexadecimal digits and CRLF",
            Self::ChunkExtension => "an extension of a chunk is malformed or quoted",
            Self::ExtensionsTooLong => "the extensions of the chunks outweigh the data",
            Self::ChunkEnd => "the data of a chunk is not followed by CRLF",
            Self::Trailers(error) => return write!(f, "the trailers: {error}"),
            Self::Truncated => "the connection ended before the body did",
        })
    }
}

impl std::error::Error for BodyError {}
