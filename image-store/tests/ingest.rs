//! Blobs on their way in: in pieces, damaged, twice at once, and layers that leave directories out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use dhow_image::{
    Begun, BlobSink, BlobSource, BlobWriter, ChainId, Compression, Descriptor, DiffId, Digest,
    Silent, TransferErrorKind, Want,
};
use dhow_image_store::{Lease, Store};

struct Layer {
    blob: Vec<u8>,
    descriptor: Descriptor,
    diff_id: DiffId,
}

fn layer(entries: &[(&str, u32, &[u8])]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(1_000_000);
        header.set_uid(u64::from(rustix::process::getuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, name, *content).unwrap();
    }
    compressed(&builder.into_inner().unwrap(), Compression::Gzip)
}

fn compressed(tar: &[u8], compression: Compression) -> Layer {
    let blob = match compression {
        Compression::None => tar.to_vec(),
        Compression::Zstd => zstd::encode_all(tar, 1).unwrap(),
        Compression::Gzip => {
            let fast = flate2::Compression::fast();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
            gzip.write_all(tar).unwrap();
            gzip.finish().unwrap()
        }
    };
    let media_type = compression.layer_media_type();
    Layer {
        descriptor: Descriptor::new(media_type, blob.len() as u64, Digest::of(&blob)),
        diff_id: DiffId(Digest::of(tar)),
        blob,
    }
}

/// The contents of a file whose layer is unpacked when it has come, and of one whose layer is unpacked while it comes.
fn contents() -> [Vec<u8>; 2] {
    // Numbers without a pattern, of which a compressor makes nothing smaller.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    [
        vec![7; 300_000],
        noise.take(200_000).flatten().collect::<Vec<u8>>(),
    ]
}

/// Their layers.
fn small_and_large() -> [Layer; 2] {
    contents().map(|content| layer(&[("./", 0o755, b""), ("a", 0o644, &content)]))
}

fn store() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("root")).unwrap();
    (place, store)
}

fn want(layer: &Layer, parent: Option<&ChainId>) -> Want {
    Want::Layer {
        diff_id: layer.diff_id.clone(),
        parent: parent.cloned(),
    }
}

fn begin<'a>(lease: &'a Lease, layer: &Layer, want: &Want) -> Box<dyn BlobWriter + 'a> {
    match lease.begin(&layer.descriptor, want).unwrap() {
        Begun::Write(writer) => writer,
        Begun::Present => panic!("it is there already"),
    }
}

fn take(lease: &Lease, layer: &Layer, parent: Option<&ChainId>) -> ChainId {
    let want = want(layer, parent);
    let mut writer = begin(lease, layer, &want);
    writer.write_all(&layer.blob).unwrap();
    writer.commit().unwrap();
    ChainId::above(parent, &layer.diff_id)
}

fn trees(store: &Store) -> Vec<PathBuf> {
    let trees = std::fs::read_dir(store.root().join("trees")).unwrap();
    trees.map(|entry| entry.unwrap().path()).collect()
}

/// What has come of blobs that are not complete.
fn parts(store: &Store) -> Vec<PathBuf> {
    let parts = std::fs::read_dir(store.root().join("ingest")).unwrap();
    parts.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_layer_is_there_after_its_commit_and_not_before() {
    for (layer, content) in small_and_large().iter().zip(contents()) {
        is_there_after_its_commit(layer, &content);
    }
}

fn is_there_after_its_commit(layer: &Layer, content: &[u8]) {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let want = want(layer, None);
    let mut writer = begin(&lease, layer, &want);
    writer.write_all(&layer.blob).unwrap();
    assert!(store.open(&layer.descriptor, 0).is_err());
    writer.commit().unwrap();
    let mut body = store.open(&layer.descriptor, 10).unwrap();
    assert_eq!(body.offset, 10);
    let mut bytes = Vec::new();
    body.reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, layer.blob[10..]);
    assert!(matches!(
        lease.begin(&layer.descriptor, &want).unwrap(),
        Begun::Present
    ));
    let found = std::fs::read(trees(&store)[0].join("fs/a")).unwrap();
    assert!(found == content);
}

#[test]
fn a_part_is_gone_on_with() {
    small_and_large().iter().for_each(is_gone_on_with);
}

fn is_gone_on_with(layer: &Layer) {
    let (_place, store) = store();
    let want = want(layer, None);
    let half = layer.blob.len() / 2;
    {
        let lease = store.lease().unwrap();
        let mut writer = begin(&lease, layer, &want);
        writer.write_all(&layer.blob[..half]).unwrap();
    }
    assert!(trees(&store).is_empty());
    let lease = store.lease().unwrap();
    let mut writer = begin(&lease, layer, &want);
    assert_eq!(writer.offset(), half as u64);
    writer.write_all(&layer.blob[half..]).unwrap();
    writer.commit().unwrap();
    store.open(&layer.descriptor, 0).unwrap();
}

#[test]
fn what_was_begun_can_be_started_over() {
    small_and_large().iter().for_each(can_be_started_over);
}

fn can_be_started_over(layer: &Layer) {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let want = want(layer, None);
    let mut writer = begin(&lease, layer, &want);
    writer.write_all(b"nonsense").unwrap();
    writer.restart().unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write_all(&layer.blob).unwrap();
    writer.commit().unwrap();
}

#[test]
fn damaged_bytes_are_never_seen() {
    small_and_large().iter().for_each(is_never_seen_damaged);
}

fn is_never_seen_damaged(layer: &Layer) {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let want = want(layer, None);
    let mut bad = layer.blob.clone();
    *bad.last_mut().unwrap() ^= 1;
    for bytes in [&bad[..], &layer.blob[..100]] {
        let mut writer = begin(&lease, layer, &want);
        writer.write_all(bytes).unwrap();
        let error = writer.commit().unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
        // Nobody can go on with it.
        assert!(parts(&store).is_empty());
    }
    let mut writer = begin(&lease, layer, &want);
    assert_eq!(writer.offset(), 0);
    let mut long = layer.blob.clone();
    long.push(0);
    assert!(writer.write_all(&long).is_err());
    drop(writer);
    assert!(store.open(&layer.descriptor, 0).is_err());
    assert!(trees(&store).is_empty());
    // And now as it should be.
    take(&lease, layer, None);
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    small_and_large().iter().for_each(is_refused_as_another);
}

fn is_refused_as_another(layer: &Layer) {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let want = Want::Layer {
        diff_id: DiffId(Digest::of(b"another")),
        parent: None,
    };
    let mut writer = begin(&lease, layer, &want);
    writer.write_all(&layer.blob).unwrap();
    let error = writer.commit().unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
    assert!(trees(&store).is_empty());
}

#[test]
fn layers_of_all_compressions_are_unpacked() {
    for content in contents() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_uid(u64::from(rustix::process::getuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        builder
            .append_data(&mut header, "a", content.as_slice())
            .unwrap();
        let tar = builder.into_inner().unwrap();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            is_there_after_its_commit(&compressed(&tar, compression), &content);
        }
    }
}

#[test]
fn what_cannot_be_unpacked_goes_at_once_but_not_what_another_has_begun_since() {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    // A name that leads out of the tree, in a blob that is what its digest says.
    let mut hostile = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_old();
    header.set_size(1);
    header.as_mut_bytes()[..6].copy_from_slice(b"../out");
    header.set_cksum();
    hostile.append(&header, &b"x"[..]).unwrap();
    let blob = hostile.into_inner().unwrap();
    let layer = Layer {
        descriptor: Descriptor::new(
            Compression::None.layer_media_type(),
            blob.len() as u64,
            Digest::of(&blob),
        ),
        diff_id: DiffId(Digest::of(&blob)),
        blob,
    };
    let want = want(&layer, None);
    let mut writer = begin(&lease, &layer, &want);
    writer.write_all(&layer.blob).unwrap();
    let error = writer.commit().unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
    assert!(parts(&store).is_empty() && trees(&store).is_empty());
    // Another process has put its own part under the name meanwhile.
    let mut writer = begin(&lease, &layer, &want);
    writer.write_all(&layer.blob).unwrap();
    let part = parts(&store).remove(0);
    std::fs::remove_file(&part).unwrap();
    std::fs::write(&part, b"another's").unwrap();
    writer.commit().unwrap_err();
    assert_eq!(std::fs::read(&part).unwrap(), b"another's");
}

#[test]
fn what_cannot_be_inflated_goes_at_once() {
    let contents = contents();
    for (compression, content) in [Compression::Gzip, Compression::Zstd]
        .iter()
        .flat_map(|compression| contents.iter().map(move |content| (*compression, content)))
    {
        let (_place, store) = store();
        let lease = store.lease().unwrap();
        // Its digest is right, but it ends too early.
        let whole = compressed(content, compression);
        let blob = whole.blob[..whole.blob.len() - 20].to_vec();
        let layer = Layer {
            descriptor: Descriptor::new(
                compression.layer_media_type(),
                blob.len() as u64,
                Digest::of(&blob),
            ),
            diff_id: whole.diff_id,
            blob,
        };
        let mut writer = begin(&lease, &layer, &want(&layer, None));
        writer.write_all(&layer.blob).unwrap();
        let error = writer.commit().unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
        assert!(parts(&store).is_empty() && trees(&store).is_empty());
    }
}

#[test]
fn what_could_not_be_unpacked_here_need_not_come_again() {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let [_, layer] = small_and_large();
    let want = want(&layer, None);
    let mut writer = begin(&lease, &layer, &want);
    // Nothing can be made in a directory that is gone.
    std::fs::remove_dir_all(&trees(&store)[0]).unwrap();
    writer.write_all(&layer.blob).unwrap();
    let error = writer.commit().unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Other, "{error}");
    let size = layer.blob.len() as u64;
    let writer = begin(&lease, &layer, &want);
    assert_eq!(writer.offset(), size);
    writer.commit().unwrap();
    assert_eq!(trees(&store).len(), 1);
}

#[test]
fn left_out_directories_follow_the_layers_below() {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let base = layer(&[("./", 0o750, b""), ("tmp/", 0o1777, b"")]);
    let strict = layer(&[("./", 0o755, b""), ("tmp/", 0o700, b"")]);
    let upper = layer(&[("tmp/x", 0o644, b"x")]);
    let on_base = take(&lease, &base, None);
    take(&lease, &upper, Some(&on_base));
    let on_strict = take(&lease, &strict, None);
    // The bytes are there; on this parent the tree is another one.
    let want = want(&upper, Some(&on_strict));
    assert!(matches!(
        lease.begin(&upper.descriptor, &want).unwrap(),
        Begun::Present
    ));
    assert_eq!(modes_of_tmp(&store), [0o700, 0o1777]);
}

/// The modes of `tmp` in the trees with `tmp/x`.
fn modes_of_tmp(store: &Store) -> Vec<u32> {
    let mut modes: Vec<u32> = trees(store)
        .iter()
        .filter(|tree| tree.join("fs/tmp/x").exists())
        .map(|tree| tree.join("fs/tmp").metadata().unwrap().mode() & 0o7777)
        .collect();
    modes.sort_unstable();
    modes
}

#[test]
fn a_layer_that_waits_for_one_of_the_same_blob_below_does_not_keep_it_from_coming() {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let base = layer(&[("./", 0o750, b""), ("tmp/", 0o1777, b"")]);
    let twice = layer(&[("tmp/x", 0o644, b"x")]);
    let lowest = want(&twice, None);
    let lowest_chain = ChainId::above(None, &twice.diff_id);
    let middle = want(&base, Some(&lowest_chain));
    let top = want(
        &twice,
        Some(&ChainId::above(Some(&lowest_chain), &base.diff_id)),
    );
    for layer in [&lowest, &middle, &top] {
        lease.announce(layer);
    }
    std::thread::scope(|scope| {
        // The highest has the blob first.
        let mut writer = begin(&lease, &twice, &top);
        let highest = scope.spawn(|| {
            writer.write_all(&twice.blob).unwrap();
            writer.commit().unwrap();
        });
        assert!(matches!(
            lease.begin(&twice.descriptor, &lowest).unwrap(),
            Begun::Present
        ));
        assert!(!highest.is_finished());
        take(&lease, &base, Some(&lowest_chain));
        highest.join().unwrap();
    });
    // At the bottom `tmp` is anybody's, on the base it is as the base has it.
    assert_eq!(modes_of_tmp(&store), [0o755, 0o1777]);
    let left = std::fs::read_dir(store.root().join("ingest")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn a_layer_whose_lower_one_was_withdrawn_fails() {
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let base = layer(&[("./", 0o750, b""), ("tmp/", 0o1777, b"")]);
    let upper = layer(&[("tmp/x", 0o644, b"x")]);
    let lower = want(&base, None);
    let higher = want(&upper, Some(&ChainId::above(None, &base.diff_id)));
    lease.announce(&lower);
    // An attempt that fails is not the last of one that was announced.
    drop(begin(&lease, &base, &lower));
    let mut writer = begin(&lease, &upper, &higher);
    writer.write_all(&upper.blob).unwrap();
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| writer.commit());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!commit.is_finished());
        lease.withdraw(&lower);
        let error = commit.join().unwrap().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("did not arrive"), "{error}: {cause}");
    });
}

#[test]
fn two_that_want_the_same_blob_fetch_it_once() {
    let (_place, store) = store();
    let layer = layer(&[("./", 0o755, b""), ("a", 0o644, &[7; 300_000])]);
    let want = want(&layer, None);
    let first = store.lease().unwrap();
    let mut writer = begin(&first, &layer, &want);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let lease = store.lease().unwrap();
            matches!(
                lease.begin(&layer.descriptor, &want).unwrap(),
                Begun::Present
            )
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!second.is_finished());
        writer.write_all(&layer.blob).unwrap();
        writer.commit().unwrap();
        assert!(second.join().unwrap());
    });
    assert_eq!(trees(&store).len(), 1);
}

#[test]
fn layers_compress_to_the_same_blob_every_time() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (_place, store) = store();
        let lease = store.lease().unwrap();
        let config = dhow_image_store::ImportConfig {
            config: oci_spec::image::Config::default(),
            platform: dhow_image::Platform::host(),
            created: None,
            message: None,
        };
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(100_000);
        header.set_mode(0o644);
        header.set_mtime(5);
        header.set_uid(u64::from(rustix::process::getuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        builder
            .append_data(&mut header, "a", &[3; 100_000][..])
            .unwrap();
        let tar = builder.into_inner().unwrap();
        let image = store.import(&lease, tar.as_slice(), config).unwrap();
        store
            .tag(&"x".parse().unwrap(), image.descriptor())
            .unwrap();
        // In its tar form it can be read already, and is what its digest says.
        let layer = &image.manifest().layers()[0];
        let mut bytes = Vec::new();
        let mut body = store.open(layer, 0).unwrap();
        body.reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), Digest::of_descriptor(layer).unwrap());
        let ready = store.distributable(&lease, &image, &Silent).unwrap();
        assert_eq!(ready.id(), image.id());
        assert_ne!(ready.descriptor(), image.descriptor());
        assert_eq!(store.find("x").unwrap().descriptor(), ready.descriptor());
        let again = store.distributable(&lease, &ready, &Silent).unwrap();
        assert_eq!(again.descriptor(), ready.descriptor());
        // An image on top of it names the blob at once.
        let child = lease
            .commit_image(ready.config(), ready.diff_ids())
            .unwrap();
        assert_eq!(child.manifest().layers(), ready.manifest().layers());
        ids.push(ready.descriptor().digest().to_string());
    }
    assert_eq!(ids[0], ids[1]);
}
