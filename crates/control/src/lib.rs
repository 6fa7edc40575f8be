//! The control plane: source, store, push, serve.
