//! Bandwidth estimation, pacing, probing and allocation, sans-IO.
