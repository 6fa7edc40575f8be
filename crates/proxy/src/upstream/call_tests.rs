//! Retries and reuse, against scripted upstreams.
