//! tulle-proxy
fn main() {}
