//! A small load-testing platform, as a Diesel project that uses taskmq: whoever wants a load test asks for one, and
//! the workers play them.

pub mod consumers;
pub mod database;
pub mod load;
pub mod runs;
pub mod server;
