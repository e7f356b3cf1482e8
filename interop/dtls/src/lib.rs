//! Drivers for foreign DTLS stacks.
