//! libsrtp2 as an oracle: a small C program that is asked over its standard input and output.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use visavis_srtp::Profile;

/// A running oracle.
pub struct Oracle {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

/// What the oracle is asked to do with a packet.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Operation {
    /// Protect an RTP packet.
    ProtectRtp = b'p',
    /// Unprotect an SRTP packet.
    UnprotectRtp = b'u',
    /// Protect an RTCP packet.
    ProtectRtcp = b'P',
    /// Unprotect an SRTCP packet.
    UnprotectRtcp = b'U',
}

impl Oracle {
    /// Starts the program that the build script made.
    pub fn start() -> Self {
        let path = env!("SRTP_ORACLE");
        assert!(!path.is_empty(), "needs libsrtp2 (Debian: libsrtp2-dev)");
        let mut child = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let to = child.stdin.take().expect("a pipe");
        let from = child.stdout.take().expect("a pipe");
        Self { child, to, from }
    }

    /// New sessions, one that sends and one that receives, with the same keys.
    pub fn set_keys(&mut self, profile: Profile, key: &[u8], salt: &[u8], ids: &[u8]) {
        let number = match profile {
            Profile::Aes128CmHmacSha1_80 => 0,
            Profile::Aes128CmHmacSha1_32 => 1,
            Profile::Aes256CmHmacSha1_80 => 2,
            Profile::Aes256CmHmacSha1_32 => 3,
            Profile::AeadAes128Gcm => 4,
            Profile::AeadAes256Gcm => 5,
            other => panic!("the oracle does not know {other:?}"),
        };
        let mut message = vec![b'K', number];
        for part in [key, salt, ids] {
            message.push(part.len() as u8);
            message.extend_from_slice(part);
        }
        self.to.write_all(&message).expect("the oracle listens");
        let mut answer = [1];
        self.from
            .read_exact(&mut answer)
            .expect("the oracle answers");
        assert_eq!(answer, [0], "libsrtp refuses the policy of {profile:?}");
    }

    /// What becomes of a packet; or libsrtp's status.
    pub fn ask(&mut self, operation: Operation, packet: &[u8]) -> Result<Vec<u8>, u8> {
        let mut message = vec![operation as u8];
        message.extend_from_slice(&(packet.len() as u16).to_be_bytes());
        message.extend_from_slice(packet);
        self.to.write_all(&message).expect("the oracle listens");
        let mut head = [0; 3];
        self.from.read_exact(&mut head).expect("the oracle answers");
        let mut bytes = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        self.from
            .read_exact(&mut bytes)
            .expect("the oracle answers");
        match head[0] {
            0 => Ok(bytes),
            status => Err(status),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
