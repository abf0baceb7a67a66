//! Nearly a thousand odd, cut, encapsulated and hostile capture files, published by others, read to their end.
//!
//! Whatever a file holds: no panic, no hang, and not more frames than there are bytes for. The files are not part of
//! the project; without them this test says so and passes.

#![expect(
    clippy::expect_used,
    reason = "a test that fails loudly is what is wanted here"
)]

#[path = "common/tell.rs"]
mod tell;

#[path = "common/needs.rs"]
mod needs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ftagent::capture::replay::CaptureReader;
use ftagent::capture::{Capture, CaptureError, PacketSource};
use ftagent::classify::{Classifier, Settings, Vantage};
use ftagent::clock;
use tell::tell;

/// No record of either format is shorter: a pcap record's header, a simple packet block without a packet.
const MIN_RECORD_BYTES: u64 = 16;

/// Far more than the largest of the files (about a megabyte) takes in a debug build on a busy machine.
const MAX_DURATION: Duration = Duration::from_secs(20);

/// Files that must be there for the comparison to mean something.
const MIN_FILES: usize = 900;

/// The other reader counts a last record that is cut; we give only whole ones.
const CUT: &str = "the last record is cut and was counted";
/// libpcap refuses them as we do: nobody has defined what such a file holds.
const VERSION: &str = "a version that was never defined";
/// libpcap refuses them as we do.
const ROOM: &str = "a packet block claims more bytes than it has";
/// The other reader unpacks; ours says what to unpack with.
const COMPRESSED: &str = "compressed";

/// Files whose count differs from the published one: how many frames we read instead, and why that is right.
const DIFFERENT: [(&str, u64, &str); 14] = [
    ("fileformat/linktype_unknown_9999.pcap", 12, CUT),
    ("fileformat/modified_magic_truncated.pcap", 290, CUT),
    ("fileformat/trunc_mid_packet.pcap", 19, CUT),
    ("libpcap/tests_pcap-invalid-version-1.pcap", 0, VERSION),
    ("libpcap/tests_pcapng-invalid-vers-1.pcapng", 0, VERSION),
    (
        "libpcap/tests_shb-option-too-long.pcapng",
        0,
        "the section header's two lengths differ",
    ),
    ("pcapng/output_be_basic_test004.pcapng", 1, ROOM),
    ("pcapng/output_le_basic_test004~1.pcapng", 1, ROOM),
    ("pcapng/pcapgo_tests_be_test901.pcapng", 1, VERSION),
    ("pcapng/pcapgo_tests_le_test901.pcapng", 1, VERSION),
    ("scapy/test_pcaps_canfd.pcap.gz", 0, COMPRESSED),
    ("scapy/test_pcaps_gvrp.pcapng.gz", 0, COMPRESSED),
    ("scapy/test_pcaps_macos.pcapng.gz", 0, COMPRESSED),
    ("scapy/test_pcaps_psp_v4_cleartext.pcap.gz", 0, COMPRESSED),
];

/// What came of reading one file.
struct Outcome {
    frames: u64,
    /// Frames or parts of frames that were told as undecodable.
    undecodable: u64,
    error: Option<CaptureError>,
}

/// Reads `path` to its end, every frame through the classifier.
fn read(path: &Path) -> Outcome {
    let settings = Settings {
        vantage: Vantage::Hosts(Vec::new()),
        tunnel_peers: Vec::new(),
    };
    let classifier = Classifier::new(settings);
    let mut outcome = Outcome {
        frames: 0,
        undecodable: 0,
        error: None,
    };
    let mut reader = match CaptureReader::open(path) {
        Ok(reader) => reader,
        Err(error) => {
            return Outcome {
                error: Some(error),
                ..outcome
            };
        }
    };
    loop {
        match reader.next() {
            Ok(Capture::Frame(frame)) => {
                outcome.frames += 1;
                match classifier.classify(&frame) {
                    Ok(sample) => outcome.undecodable += u64::from(sample.flaw.is_some()),
                    Err(_) => outcome.undecodable += 1,
                }
            }
            Ok(Capture::Idle) => {}
            Ok(Capture::End) => return outcome,
            Err(error) => outcome.error = Some(error),
        }
    }
}

/// The packets that another, lenient reader found before the first error, by path from the corpus folder.
fn published_counts(manifest: &str) -> BTreeMap<String, u64> {
    let mut lines = manifest.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        header
            .iter()
            .position(|column| *column == name)
            .expect("the manifest has its columns")
    };
    let (file, packets) = (column("file"), column("packets"));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            Some((
                (*fields.get(file)?).to_owned(),
                fields.get(packets)?.parse().ok()?,
            ))
        })
        .collect()
}

#[test]
fn every_malformed_capture_is_read_to_its_end() {
    let Some(corpus) = needs::shared("corpus") else {
        return;
    };
    let manifest = fs::read_to_string(corpus.join("manifest.tsv"));
    let manifest = manifest.expect("the collection has a manifest");
    let mut published = published_counts(&manifest);
    published.retain(|file, _| file.starts_with("malformed/"));
    assert!(
        published.len() >= MIN_FILES,
        "the manifest lists only {} malformed files",
        published.len()
    );

    let (mut frames, mut undecodable, mut damaged, mut refused) = (0, 0, 0, 0);
    let mut unexplained = Vec::new();
    for (file, expected) in &published {
        let path = corpus.join(file);
        let bytes = fs::metadata(&path).expect("a file of the manifest").len();
        let began = clock::monotonic();
        let outcome = read(&path);
        let took = began.elapsed();
        assert!(took < MAX_DURATION, "{file} took {took:?}");
        assert!(
            outcome.frames <= bytes / MIN_RECORD_BYTES,
            "{file}: {} frames in {bytes} bytes",
            outcome.frames
        );

        frames += outcome.frames;
        undecodable += outcome.undecodable;
        match &outcome.error {
            None => {}
            Some(CaptureError::Damaged {
                offset, problem, ..
            }) => {
                assert!(
                    *offset <= bytes,
                    "{file}: {problem} at byte {offset} of {bytes}"
                );
                damaged += 1;
            }
            Some(CaptureError::NotACapture { .. }) => refused += 1,
            Some(other) => panic!("{other}"),
        }
        if !agrees(file, *expected, &outcome) {
            unexplained.push(file);
        }
    }
    tell!(
        "{} files: {frames} frames, {undecodable} of them not or not wholly decodable; {damaged} files damaged, \
         {refused} no captures",
        published.len()
    );
    assert!(
        unexplained.is_empty(),
        "counts differ without a known reason: {unexplained:#?}"
    );
}

/// Whether the frames of `file` are as many as `published`, or as many as they should be instead. Prints differences.
fn agrees(file: &str, published: u64, outcome: &Outcome) -> bool {
    let known = DIFFERENT
        .iter()
        .find(|(name, ..)| file.strip_prefix("malformed/") == Some(name));
    if outcome.frames != published {
        let why = known.map_or("UNEXPLAINED", |(.., why)| why);
        let said = outcome
            .error
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), ToString::to_string);
        tell!(
            "{file}: {} frames, published {published}: {why}; we said: {said}",
            outcome.frames
        );
    }
    outcome.frames == known.map_or(published, |(_, frames, _)| *frames)
}
