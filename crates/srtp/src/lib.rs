//! SRTP and SRTCP.
