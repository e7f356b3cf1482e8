//! Sockets: UDP batches with offload and ECN, TCP framing, one-port mux, interfaces, mDNS.
