//! The shapes that most attributes have.

/// A newtype over text: UTF-8, at most `$max` bytes on reading and writing (longer is malformed).
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name<'a>(pub &'a str);

        impl<'a> $crate::Attribute<'a> for $name<'a> {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(value: &'a [u8], _: &$crate::TransactionId) -> Option<Self> {
                if value.len() > $max {
                    return None;
                }
                std::str::from_utf8(value).ok().map(Self)
            }

            fn encoded_len(&self) -> usize {
                self.0.len()
            }

            fn encode(&self, out: &mut [u8], _: &$crate::TransactionId) {
                out.copy_from_slice(self.0.as_bytes());
            }
        }
    };
}

/// A newtype over borrowed bytes of any length.
macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name<'a>(pub &'a [u8]);

        impl<'a> $crate::Attribute<'a> for $name<'a> {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(value: &'a [u8], _: &$crate::TransactionId) -> Option<Self> {
                Some(Self(value))
            }

            fn encoded_len(&self) -> usize {
                self.0.len()
            }

            fn encode(&self, out: &mut [u8], _: &$crate::TransactionId) {
                out.copy_from_slice(self.0);
            }
        }
    };
}

/// A newtype over an array of bytes.
macro_rules! array {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $crate::Attribute<'_> for $name {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(value: &[u8], _: &$crate::TransactionId) -> Option<Self> {
                value.try_into().ok().map(Self)
            }

            fn encoded_len(&self) -> usize {
                $len
            }

            fn encode(&self, out: &mut [u8], _: &$crate::TransactionId) {
                out.copy_from_slice(&self.0);
            }
        }
    };
}

/// A newtype over an unsigned number in network byte order.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $number:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $number);

        impl $crate::Attribute<'_> for $name {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(value: &[u8], _: &$crate::TransactionId) -> Option<Self> {
                Some(Self(<$number>::from_be_bytes(value.try_into().ok()?)))
            }

            fn encoded_len(&self) -> usize {
                size_of::<$number>()
            }

            fn encode(&self, out: &mut [u8], _: &$crate::TransactionId) {
                out.copy_from_slice(&self.0.to_be_bytes());
            }
        }
    };
}

/// An attribute that says something by being there. A value is ignored on reading.
macro_rules! flag {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name;

        impl $crate::Attribute<'_> for $name {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(_: &[u8], _: &$crate::TransactionId) -> Option<Self> {
                Some(Self)
            }

            fn encoded_len(&self) -> usize {
                0
            }

            fn encode(&self, _: &mut [u8], _: &$crate::TransactionId) {}
        }
    };
}

/// An address in the clear.
macro_rules! plain_address {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub std::net::SocketAddr);

        impl $crate::Attribute<'_> for $name {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(value: &[u8], _: &$crate::TransactionId) -> Option<Self> {
                $crate::address::decode(value).map(Self)
            }

            fn encoded_len(&self) -> usize {
                $crate::address::encoded_len(&self.0)
            }

            fn encode(&self, out: &mut [u8], _: &$crate::TransactionId) {
                $crate::address::encode(&self.0, out);
            }
        }
    };
}

/// An address that is XORed with cookie and transaction, so that no NAT rewrites it on the way.
macro_rules! xor_address {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub std::net::SocketAddr);

        impl $crate::Attribute<'_> for $name {
            const TYPE: $crate::AttributeType = $crate::AttributeType::$kind;

            fn decode(value: &[u8], transaction: &$crate::TransactionId) -> Option<Self> {
                let address = $crate::address::decode(value)?;
                Some(Self($crate::address::xor(address, transaction)))
            }

            fn encoded_len(&self) -> usize {
                $crate::address::encoded_len(&self.0)
            }

            fn encode(&self, out: &mut [u8], transaction: &$crate::TransactionId) {
                $crate::address::encode(&$crate::address::xor(self.0, transaction), out);
            }
        }
    };
}

pub(super) use {array, bytes, flag, number, plain_address, text, xor_address};
