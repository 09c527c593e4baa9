//! Guest shards: other executors behind our acceptor, balance and counts.

#[cfg(feature = "glommio")]
#[path = "stage/driver.rs"]
mod driver;
#[path = "guests/inboxes.rs"]
mod inboxes;
mod netns;
#[cfg(feature = "glommio")]
#[path = "guests/on_glommio.rs"]
mod on_glommio;
#[cfg(feature = "tokio")]
#[path = "guests/on_tokio.rs"]
mod on_tokio;
#[path = "guests/redirected.rs"]
mod redirected;
#[path = "guests/stage.rs"]
mod stage;
