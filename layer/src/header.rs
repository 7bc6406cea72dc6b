//! Headers of tar form version 1: ustar, with pax records only where ustar cannot say it.

use std::io::Write as _;

use tar::{EntryType, Header};

/// What ustar's eleven octal digits of size and time hold.
const ELEVEN_DIGITS: u64 = 0o777_7777_7777;
/// What its seven digits of ids and device numbers hold.
const SEVEN_DIGITS: u32 = 0o777_7777;

/// What an entry's headers say.
pub(crate) struct Fields<'a> {
    /// The path; a directory's ends in a slash.
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    /// Sorted by name.
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Appends an entry's headers to `out`.
pub(crate) fn write(fields: &Fields<'_>, out: &mut Vec<u8>) {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut need = |key: &str, value: Vec<u8>| records.push((key.into(), value));
    let mut header = Header::new_ustar();
    header.set_entry_type(fields.kind);
    header.set_mode(fields.mode);
    if !set_name(&mut header, fields.name) {
        need("path", fields.name.to_vec());
    }
    if fields.link.len() > 100 {
        need("linkpath", fields.link.to_vec());
    } else {
        header.as_old_mut().linkname[..fields.link.len()].copy_from_slice(fields.link);
    }
    let mut number = |key: &str, value: u64, limit: u64| {
        if value > limit {
            need(key, value.to_string().into());
            return 0;
        }
        value
    };
    header.set_uid(number("uid", fields.uid.into(), SEVEN_DIGITS.into()));
    header.set_gid(number("gid", fields.gid.into(), SEVEN_DIGITS.into()));
    header.set_size(number("size", fields.size, ELEVEN_DIGITS));
    match u64::try_from(fields.mtime) {
        Ok(mtime) if mtime <= ELEVEN_DIGITS => header.set_mtime(mtime),
        _ => {
            need("mtime", fields.mtime.to_string().into());
            header.set_mtime(0);
        }
    }
    // Linux has twelve bits of major and twenty of minor numbers.
    let _ = header.set_device_major(fields.device.0);
    let _ = header.set_device_minor(fields.device.1);
    for (name, value) in fields.xattrs {
        records.push((xattr_key(name), value.clone()));
    }
    if !records.is_empty() {
        write_pax(records, out);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// Writes the name into ustar's two fields; false where it does not fit.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else {
        return false;
    };
    if name.len() <= 100 {
        ustar.name[..name.len()].copy_from_slice(name);
        return true;
    }
    // The slash between prefix and name is left out; the last possible one makes the split unique.
    let last = name.len().saturating_sub(2).min(155);
    let slash = (0..=last).rev().find(|i| name[*i] == b'/');
    if let Some(slash) = slash
        && slash > 0
        && name.len() - slash - 1 <= 100
    {
        ustar.prefix[..slash].copy_from_slice(&name[..slash]);
        let rest = &name[slash + 1..];
        ustar.name[..rest.len()].copy_from_slice(rest);
        return true;
    }
    // For readers that know no pax records, the beginning.
    ustar.name.copy_from_slice(&name[..100]);
    false
}

/// The key of an extended attribute's record. It ends at the first `=`, so a name with one is written as GNU tar does it.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            other => key.push(*other),
        }
    }
    key
}

fn write_pax(mut records: Vec<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) {
    records.sort();
    let mut content = Vec::new();
    for (key, value) in &records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let _ = write!(content, "{length} ");
        content.extend_from_slice(key);
        content.push(b'=');
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    let name = b"././@PaxHeader";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    let _ = header.set_device_major(0);
    let _ = header.set_device_minor(0);
    header.set_cksum();
    // Padded by itself: `out` may begin anywhere in the stream.
    content.resize(content.len().next_multiple_of(512), 0);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&content);
}
