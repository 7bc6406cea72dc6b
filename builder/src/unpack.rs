//! Archives that `ADD` unpacks.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use dhow_image::Compression;
use dhow_layer::ExtractOptions;

use crate::TreeError;
use crate::copy::Target;
use crate::source_tree::{Item, SourceTree};

/// The length of a tar header.
const BLOCK: usize = 512;

/// Unpacks the item into the target if it is an archive; says whether it was one.
pub(crate) fn unpack(
    tree: &SourceTree<'_>,
    item: &Item,
    target: &Target<'_>,
) -> Result<bool, TreeError> {
    let shown = item.path.to_string_lossy().into_owned();
    let failed = TreeError::io("reading", &shown);
    let mut file = tree
        .root
        .open_file(&item.path)
        .map_err(TreeError::system("opening", &shown))?;
    if !file.metadata().map_err(&failed)?.is_file() {
        return Ok(false);
    }
    let mut start = [0; 6];
    let length = read_start(&mut file, &mut start).map_err(&failed)?;
    if is_foreign(&start[..length]) {
        return Err(TreeError::Refused(format!(
            "{shown} is compressed with bzip2 or xz, which ADD cannot unpack; use gzip or zstd, or ADD --unpack=false"
        )));
    }
    let compression = Compression::of_bytes(&start[..length]);
    let mut block = [0; BLOCK];
    let mut reader = decompressed(&mut file, compression).map_err(&failed)?;
    let is_tar = match read_start(&mut reader, &mut block) {
        Ok(BLOCK) => is_tar_header(&block),
        // What is no archive is copied as it is.
        Ok(_) | Err(_) => false,
    };
    drop(reader);
    if !is_tar {
        return Ok(false);
    }
    let reader = decompressed(&mut file, compression).map_err(&failed)?;
    drop(
        target
            .root
            .make_directories(target.destination.as_ref(), target.maker())?,
    );
    let options = ExtractOptions {
        destination: target.destination.trim_matches('/').into(),
        owner: target.owner,
        mode: target.mode,
    };
    dhow_layer::extract(reader, target.root.fd(), &options).map_err(|source| {
        TreeError::Unpack {
            path: shown.clone(),
            source,
        }
    })?;
    Ok(true)
}

/// Fills the buffer as far as the stream goes.
fn read_start(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match stream.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn decompressed(file: &mut File, compression: Compression) -> std::io::Result<Box<dyn Read + '_>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::Decoder::new(file)?),
    })
}

/// Compressions in which Docker would look for an archive and dhow cannot.
fn is_foreign(start: &[u8]) -> bool {
    start.starts_with(b"BZh") || start.starts_with(b"\xfd7zXZ\0")
}

/// Whether a block is a tar header: its checksum says so.
fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    let text = String::from_utf8_lossy(&block[148..156]);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let Ok(said) = u32::from_str_radix(text, 8) else {
        return false;
    };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        })
        .sum();
    sum == said
}
