//! The elements of a header extension, with one- and two-byte headers (RFC 8285 section 4).

/// Which element headers a writer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// One-byte headers until an element needs two bytes, then two-byte headers for all. Only where
    /// `a=extmap-allow-mixed` was negotiated, or where ids and lengths stay small anyway.
    #[default]
    Auto,
    /// One-byte headers: ids 1 to 14, 1 to 16 bytes.
    OneByte,
    /// Two-byte headers: ids 1 to 255, 0 to 255 bytes.
    TwoByte,
}

/// The extension's form, as its profile value says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    OneByte,
    TwoByte,
    Other,
}

impl Profile {
    const fn new(profile: u16) -> Self {
        match profile {
            0xbede => Self::OneByte,
            // The low four bits are "appbits" (RFC 8285 section 4.3).
            0x1000..=0x100f => Self::TwoByte,
            _ => Self::Other,
        }
    }
}

/// Writes an element's header of one or two bytes. The caller knows that it fits.
pub(crate) fn write_element(buffer: &mut [u8], two_byte: bool, id: u8, len: usize) {
    if two_byte {
        buffer[0] = id;
        buffer[1] = len as u8;
    } else {
        buffer[0] = id << 4 | (len - 1) as u8;
    }
}

/// Finds the element at or after `at`: its header's place, its id and where its data stands.
fn next_element(
    profile: Profile,
    bytes: &[u8],
    mut at: usize,
) -> Option<(usize, u8, usize, usize)> {
    loop {
        let &first = bytes.get(at)?;
        let (id, start, len) = match profile {
            Profile::Other => return None,
            Profile::OneByte => {
                if first == 0 {
                    at += 1;
                    continue;
                }
                // Id 15, or 0 with a length, ends the processing (RFC 8285 section 4.2).
                let id = first >> 4;
                if id == 0 || id == 15 {
                    return None;
                }
                (id, at + 1, usize::from(first & 0x0f) + 1)
            }
            Profile::TwoByte => {
                if first == 0 {
                    at += 1;
                    continue;
                }
                (first, at + 2, usize::from(*bytes.get(at + 1)?))
            }
        };
        let end = start + len;
        return (end <= bytes.len()).then_some((at, id, start, end));
    }
}

/// The elements of a packet's header extension. An element that overruns the extension ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions<'a> {
    profile: Profile,
    bytes: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// The elements in `bytes`, whose form the 16-bit `profile` says: 0xBEDE or 0x100X.
    pub const fn new(profile: u16, bytes: &'a [u8]) -> Self {
        Self {
            profile: Profile::new(profile),
            bytes,
        }
    }

    /// Each element's id and data, in order.
    pub const fn iter(&self) -> ExtensionsIter<'a> {
        ExtensionsIter {
            profile: self.profile,
            bytes: self.bytes,
            at: 0,
        }
    }

    /// The data of the first element with this id.
    pub fn get(&self, id: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|&(found, _)| found == id)
            .map(|(_, data)| data)
    }
}

impl<'a> IntoIterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);
    type IntoIter = ExtensionsIter<'a>;

    fn into_iter(self) -> ExtensionsIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Extensions`]: id and data of each element.
#[derive(Debug, Clone)]
pub struct ExtensionsIter<'a> {
    profile: Profile,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for ExtensionsIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (_, id, start, end) = next_element(self.profile, self.bytes, self.at)?;
        self.at = end;
        Some((id, &self.bytes[start..end]))
    }
}

/// What becomes of an element when a packet is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionEdit {
    /// It stays, under this id: 1 to 14 in the one-byte form, 1 to 255 in the two-byte form. An id
    /// that the form cannot carry removes the element.
    Keep(u8),
    /// It becomes padding.
    Remove,
}

/// The elements of a packet's header extension, to be changed in place.
#[derive(Debug)]
pub struct ExtensionsMut<'a> {
    profile: Profile,
    bytes: &'a mut [u8],
}

impl<'a> ExtensionsMut<'a> {
    pub(crate) fn new(profile: u16, bytes: &'a mut [u8]) -> Self {
        Self {
            profile: Profile::new(profile),
            bytes,
        }
    }

    /// The data of the first element with this id. Its length cannot change.
    pub fn get_mut(&mut self, id: u8) -> Option<&mut [u8]> {
        let mut at = 0;
        loop {
            let (_, found, start, end) = next_element(self.profile, self.bytes, at)?;
            if found == id {
                return Some(&mut self.bytes[start..end]);
            }
            at = end;
        }
    }

    /// Asks `edit` about each element: it may change the data, and says under which id the element
    /// goes on. The extension keeps its size; what is removed becomes padding.
    pub fn rewrite(&mut self, mut edit: impl FnMut(u8, &mut [u8]) -> ExtensionEdit) {
        let mut at = 0;
        while let Some((header, id, start, end)) = next_element(self.profile, self.bytes, at) {
            let verdict = edit(id, &mut self.bytes[start..end]);
            match (verdict, self.profile) {
                (ExtensionEdit::Keep(id @ 1..=14), Profile::OneByte) => {
                    self.bytes[header] = id << 4 | (end - start - 1) as u8;
                }
                (ExtensionEdit::Keep(id @ 1..), Profile::TwoByte) => self.bytes[header] = id,
                _ => self.bytes[header..end].fill(0),
            }
            at = end;
        }
        // What could not be read is not passed on: it would be read under the new ids.
        self.bytes[at..].fill(0);
    }
}
