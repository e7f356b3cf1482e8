//! The typed attributes, one type each: `message.get::<Lifetime>()`, `builder.add(&Lifetime(600))`.
//!
//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT have no type: they are checked by
//! [`Message`](crate::Message) and written by [`MessageBuilder`](crate::MessageBuilder).

mod auth;
mod ice;
mod nat;
mod simple;
mod turn;

pub use auth::{
    AccessToken, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, ThirdPartyAuthorization,
    UserHash, Username,
};
pub use ice::{
    DtlsInStun, DtlsInStunAck, GoogMiscInfo, GoogNetworkInfo, IceControlled, IceControlling,
    Nomination, Priority, UseCandidate,
};
pub use nat::{
    AlternateDomain, AlternateServer, CacheTimeout, ChangeRequest, ChangedAddress, ErrorCode,
    MappedAddress, Origin, OtherAddress, Padding, ResponseOrigin, ResponsePort, Software,
    SourceAddress, TransactionTransmitCounter, UnknownAttributes, XorMappedAddress,
};
pub use turn::{
    AdditionalAddressFamily, AddressErrorCode, AddressFamily, Channel, ConnectionId, Data,
    DontFragment, EvenPort, Icmp, Lifetime, MobilityTicket, RequestedAddressFamily,
    RequestedTransport, ReservationToken, XorPeerAddress, XorRelayedAddress,
};
