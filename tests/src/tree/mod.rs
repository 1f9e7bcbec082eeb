//! Trees with every kind of file that POSIX knows ([`make`]), and an exact comparer of metadata and
//! content with readable differences ([`facts`]).

mod compare;
mod make;

pub use compare::{Facts, difference, facts};
pub use make::make;
