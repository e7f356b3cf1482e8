//! Application data on its way out, and keying material for others.

use std::ops::Range;

use visavis_datagram::{Framing, TransmitBuf};

use super::handshake::Secrets;
use super::{Connection, Phase};
use crate::key_schedule::{export12, export13};
use crate::record::LEGACY_HEADER_LEN;
use crate::{Error, SrtpKeys, Version};

impl Connection {
    /// The room that one record needs around application data, in bytes. It is fixed once
    /// [`Event::Connected`](crate::Event::Connected) came, unless the peer changes its connection ID
    /// to one of another length.
    pub fn framing(&self) -> Framing {
        self.records.current_framing().unwrap_or(Framing {
            header: LEGACY_HEADER_LEN,
            trailer: 17,
        })
    }

    /// Makes one record of a whole datagram: `payload` is where the application data stands, with
    /// exactly [`framing`](Self::framing)'s room around it.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::Closed`], [`Error::Framing`], [`Error::PayloadTooLong`].
    pub fn seal(&mut self, datagram: &mut [u8], payload: Range<usize>) -> Result<(), Error> {
        let framing = self.sealable()?;
        self.seal_one(framing, datagram, payload)?;
        self.update_keys_in_time();
        Ok(())
    }

    /// Seals each datagram of a run whose framing is [`framing`](Self::framing)'s.
    ///
    /// # Errors
    /// As [`seal`](Self::seal); the run is then unusable.
    pub fn seal_run(&mut self, out: &mut TransmitBuf) -> Result<(), Error> {
        let framing = self.sealable()?;
        for (datagram, payload) in out.datagrams_mut() {
            self.seal_one(framing, datagram, payload)?;
        }
        self.update_keys_in_time();
        Ok(())
    }

    fn sealable(&self) -> Result<Framing, Error> {
        match self.phase {
            Phase::Handshaking => Err(Error::NotConnected),
            Phase::Closed => Err(Error::Closed),
            Phase::Connected => Ok(self.framing()),
        }
    }

    fn seal_one(
        &mut self,
        framing: Framing,
        datagram: &mut [u8],
        payload: Range<usize>,
    ) -> Result<(), Error> {
        if payload.start != framing.header
            || payload.end < payload.start
            || payload.end + framing.trailer != datagram.len()
        {
            return Err(Error::Framing);
        }
        if payload.len() > self.records.content_limit {
            return Err(Error::PayloadTooLong);
        }
        self.records.seal_current(datagram, payload.len());
        self.stats.data_records_sent += 1;
        Ok(())
    }

    /// RFC 9147 section 4.5.3: new keys before the AEAD's limit.
    fn update_keys_in_time(&mut self) {
        if self.records.written() >= self.config.limits.records_per_key
            && self.version() == Some(Version::Dtls13)
        {
            self.queue_key_update(false);
        }
    }

    /// Fills `out` with keying material that both ends can derive (RFC 5705, RFC 8446 section 7.5).
    /// 1.3 takes an absent context for an empty one.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::ExportLength`].
    pub fn export_keying_material(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let session = self.session.as_ref().ok_or(Error::NotConnected)?;
        let hash = session.suite.hash();
        // Labels go into a byte of length, with "dtls13" before them; contexts into two.
        if label.len() > 249
            || context.is_some_and(|context| context.len() > usize::from(u16::MAX))
            || out.len() > 255 * hash.output_len()
        {
            return Err(Error::ExportLength);
        }
        match &session.secrets {
            Secrets::Dtls13 { exporter, .. } => {
                export13(hash, exporter, label, context.unwrap_or_default(), out);
            }
            Secrets::Dtls12 { master, randoms } => {
                export12(hash, master, randoms, label, context, out);
            }
        }
        Ok(())
    }

    /// SRTP's profile and keys, if they were agreed on and the handshake is complete.
    pub fn srtp_keys(&self) -> Option<SrtpKeys> {
        self.derive_srtp_keys(self.session.as_ref()?)
    }
}
