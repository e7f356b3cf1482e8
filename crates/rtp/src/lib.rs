//! RTP, RTCP, header extensions and payload formats.
