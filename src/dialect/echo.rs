//! Every message comes back.
