//! How much a peer may ask of a coordinator. docs/security.md lists these.

use std::time::Duration;

/// Connections of peers that have proved who they are. Fewer where the system allows fewer open files.
pub const CONNECTIONS: usize = 8192;
/// Connections that have not made an accepted call yet. One more, and the oldest of them is closed:
/// an honest peer needs milliseconds to prove itself, so a flood pushes out its own.
pub const STRANGERS: usize = 512;
/// From the connection to the first accepted call.
pub const INTRODUCTION: Duration = Duration::from_secs(10);
/// A connection without a call is closed after this long; the peer connects again when it needs to.
pub const IDLE: Duration = Duration::from_secs(300);
/// Connections are renewed this often, and certificates with them.
pub const CONNECTION_AGE: Duration = Duration::from_secs(3600);
/// Whoever does not answer a ping for this long is gone. Pings are sent as often.
pub const PING: Duration = Duration::from_secs(20);
/// Calls under way on one connection.
pub const STREAMS: u32 = 512;
/// Of one call's headers, in bytes.
pub const HEADERS: u32 = 16 << 10;
/// Of one message, in bytes. Its length is announced, so that a longer one is refused unread.
pub const MESSAGE: usize = 16 << 20;
/// Answers handed in with one call.
pub const ANSWERS: usize = 4096;
/// Wrong or missing proofs per address and minute that are answered; beyond them the connection is
/// closed as well. Calls with a right one always pass: many machines may share an address.
pub const FAILURES: u32 = 30;
/// Files with tokens or certificates are looked at this often.
pub const LOOK: Duration = Duration::from_secs(2);
/// The largest file of tokens or certificates, in bytes.
pub const SECRET_FILE: u64 = 1 << 20;
