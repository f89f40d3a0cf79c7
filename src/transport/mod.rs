//! How peers reach each other, and how each proves who it is. Both ends stand here.
//!
//! ```text
//!  client, worker                                     coordinator
//!  Credentials ─► Dialer ──── TCP, TLS 1.3 ────► listener   counts, times out, sheds
//!       │          (ca, cert, key)                  │        (connections)
//!       └─► Bearer ──── authorization: Bearer ──► guard      who calls, and may they
//!            (token)                                │        (calls)
//!                                                   ▼
//!                                               the services, with a `Caller`
//! ```
//!
//! Files (tokens, certificates) are read again when they change, on both ends, without a restart.
//! docs/security.md says what is promised.

mod access;
mod address;
mod certs;
mod conn;
mod connect;
mod credentials;
mod error;
mod faults;
mod fresh;
mod guard;
pub mod limits;
mod listener;
mod roles;
mod tls;
mod tokens;

pub use access::{Access, RunToken};
pub use address::AddressFile;
pub use certs::{CertsError, MadeCerts, make_certs};
pub use connect::{Connect, Connection, Opening, Stream};
pub use credentials::{Bearer, Credentials, Dialer, Proof, explain};
pub use error::AccessError;
pub use faults::Faults;
pub use guard::{Guard, Guarded, Need, need};
pub use listener::{Accept, Peer, listen};
pub use roles::{Caller, Role, Roles, is_name};
