//! Blobs on their way out.

use std::fs::File;
use std::io::{ErrorKind, Seek as _, SeekFrom};
use std::os::fd::AsFd;

use dhow_image::{BlobBody, BlobSource, Descriptor, DiffId, TransferError, TransferErrorKind};

use crate::blobs::digest_of;
use crate::error::io;
use crate::pipe::pipe;
use crate::{Store, StoreError};

impl BlobSource for Store {
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError> {
        self.open_blob(descriptor, offset)
    }
}

impl Store {
    /// Opens a blob: its file, or the tree of a layer that is named in its tar form.
    ///
    /// # Errors
    /// [`TransferErrorKind::NotFound`] when there is neither; others when it cannot be read.
    pub fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobBody<'static>, TransferError> {
        let digest = digest_of(descriptor)?;
        let path = self.blob_path(&digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.open_tar_form(&DiffId(digest));
            }
            Err(error) => return Err(io("opening the blob", path)(error).into()),
        };
        file.seek(SeekFrom::Start(offset))
            .map_err(io("reading the blob", path))?;
        Ok(BlobBody {
            reader: Box::new(file),
            offset,
        })
    }

    /// A layer in its tar form, packed while it is read.
    fn open_tar_form(&self, diff_id: &DiffId) -> Result<BlobBody<'static>, TransferError> {
        let record = self.layer(diff_id, None)?;
        let Some(record) = record.filter(|record| record.tar_form.is_some()) else {
            let message = format!("blob {diff_id} is not in the store");
            return Err(TransferError::new(TransferErrorKind::NotFound, message));
        };
        Ok(self.packed(diff_id, &record.tree)?)
    }

    /// What a tree packs to, which is to be the tar of this layer: that it is not is said at its end.
    pub(crate) fn packed(
        &self,
        diff_id: &DiffId,
        tree: &str,
    ) -> Result<BlobBody<'static>, StoreError> {
        let tree = self.open_tree(tree)?;
        let options = self.packing();
        let expected = diff_id.clone();
        let (mut writer, reader) = pipe();
        std::thread::spawn(
            move || match dhow_layer::pack(tree.as_fd(), &mut writer, &options) {
                Ok(packed) if packed.diff_id == expected => {
                    let _ = writer.finish();
                }
                Ok(_) => {
                    let short = expected.0.short();
                    let changed = format!("the tree of layer {short} was changed");
                    writer.fail(std::io::Error::other(changed));
                }
                Err(error) => writer.fail(std::io::Error::other(error)),
            },
        );
        Ok(BlobBody {
            reader: Box::new(reader),
            offset: 0,
        })
    }
}
