//! STUN and TURN message codec, attributes, integrity and transactions.
