pub mod recipe;
pub mod sweep;
pub use recipe::*;
pub use sweep::*;
