//! Reading back on request: verify every object, restore segments to the local disk.

use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::archive::ledger::ArchiveFile;
use crate::core::Core;
use crate::fetch::sealed;
use crate::host::RestoredSegment;
use crate::record::SegmentObject;
use crate::report::{RestoreReport, VerifyReport};

/// Bytes of an archive file that are read at once.
const READ_BYTES: u64 = 8 << 20;

pub async fn verify(core: &Core, topic: &str) -> Result<VerifyReport> {
    let wanted = |name: &str| topic.is_empty() || name == topic;
    let (segments, files) = core.journal.with(|manifest| {
        let partitions = manifest.partitions().filter(|(_, p)| wanted(&p.topic));
        let segments: Vec<SegmentObject> = partitions.flat_map(|(_, p)| p.segments().cloned()).collect();
        let tables = manifest.archive().tables().filter(|(_, t)| wanted(&t.topic));
        let files: Vec<ArchiveFile> =
            tables.flat_map(|(_, t)| t.files().iter().chain(t.bad_files()).cloned()).collect();
        (segments, files)
    });
    let mut report = VerifyReport::default();
    for segment in segments {
        let outcome = core.reader.read_whole(&segment).await.map(|_| segment.object_bytes());
        let removed = || {
            core.journal.with(|m| {
                m.partition(segment.key.partition.id())
                    .is_none_or(|p| p.find(segment.key.end_offset - 1).is_none())
            })
        };
        match outcome {
            Err(error) if error.code != ErrorCode::ObjectStore && removed() => {}
            outcome => note(&mut report, &segment.key.object, outcome)?,
        }
    }
    for file in files {
        let outcome = verify_file(core, &file).await;
        note(&mut report, &file.object, outcome)?;
    }
    Ok(report)
}

/// A damaged object is a finding; a store that does not answer ends the verification.
fn note(report: &mut VerifyReport, object: &str, outcome: Result<u64>) -> Result<()> {
    match outcome {
        Ok(bytes) => {
            report.objects += 1;
            report.bytes += bytes;
        }
        Err(error) if error.code == ErrorCode::ObjectStore => return Err(error),
        Err(error) => {
            report.objects += 1;
            report.problems.push(error.at(object));
        }
    }
    Ok(())
}

async fn verify_file(core: &Core, file: &ArchiveFile) -> Result<u64> {
    let damaged =
        |what: String| Error::new(ErrorCode::CorruptLog, format!("archive file {}: {what}", file.object));
    match core.objects.length(&file.object).await? {
        Some(length) if length == file.bytes => {}
        Some(length) => return Err(damaged(format!("it has {length} bytes, {} were written", file.bytes))),
        None => return Err(damaged("it is not in the store".to_owned())),
    }
    let mut checksum = crc32fast::Hasher::new();
    let mut start = 0;
    while start < file.bytes {
        let end = (start + READ_BYTES).min(file.bytes);
        checksum.update(&core.objects.get_range(&file.object, start, end).await?);
        start = end;
    }
    let computed = checksum.finalize();
    if computed != file.checksum {
        return Err(damaged(format!(
            "its checksum is {computed:#010x}, {:#010x} was written",
            file.checksum
        )));
    }
    Ok(file.bytes)
}

pub async fn restore(core: &Core, topic: &str, partition: Option<i32>) -> Result<RestoreReport> {
    let mut facts = core.host.partitions().await?;
    facts.retain(|f| f.topic == topic && partition.is_none_or(|wanted| wanted == f.id.partition));
    if facts.is_empty() {
        let message = format!(
            "topic {topic} has no such partition with offloaded segments on this node: see `sunseo tier status`"
        );
        return Err(Error::new(ErrorCode::UnknownTopic, message));
    }
    let mut report = RestoreReport::default();
    for facts in facts {
        // backwards, so that the local log stays without a gap
        let mut local_start = facts.local_start;
        while local_start > facts.log_start {
            let segment =
                core.journal.with(|m| m.partition(facts.id).and_then(|p| p.find(local_start - 1).cloned()));
            let Some(segment) = segment else { break };
            let data = core.reader.read_whole(&segment).await?;
            local_start = segment.key.base_offset;
            report.segments += 1;
            report.bytes += segment.data_bytes;
            core.host.restore_segment(facts.id, RestoredSegment { segment: sealed(&segment), data }).await?;
        }
    }
    Ok(report)
}
