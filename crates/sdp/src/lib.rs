//! SDP parse and print, typed: RFC 8866 and the WebRTC attributes.
