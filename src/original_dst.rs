//! Original destination.
