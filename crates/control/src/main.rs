//! tulled
fn main() {}
