//! Deterministic network simulator: virtual time, links, queues, NATs, firewalls.
