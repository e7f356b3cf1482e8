//! NACK, RTX, FEC, jitter buffer, frame assembly and layer selection, sans-IO.
