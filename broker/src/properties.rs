//! Who a directory belongs to: written at the first start, compared at every other one.

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use sunseo_log::{Disk, sealed};
use sunseo_proto::envelope::kind;
use sunseo_proto::error::{Error, ErrorCode, Result};

const FILE: &str = "node.properties";
const VERSION: u8 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct Properties {
    #[prost(int32, tag = "1")]
    node_id: i32,
    /// Empty until the node has joined its cluster.
    #[prost(string, tag = "2")]
    cluster_id: String,
}

fn read(disk: &dyn Disk) -> Result<Option<Properties>> {
    let Some((_, payload)) = sealed::read(disk, Path::new(FILE), kind::META_PROPERTIES, VERSION)? else {
        return Ok(None);
    };
    let decoded = <Properties as prost::Message>::decode(payload as Bytes);
    let damaged = |error| Error::new(ErrorCode::CorruptLog, format!("{FILE} does not decode: {error}"));
    decoded.map(Some).map_err(damaged)
}

fn write(disk: &dyn Disk, properties: &Properties) -> Result<()> {
    let payload = properties.encode_to_vec();
    Ok(sealed::write(disk, Path::new(FILE), kind::META_PROPERTIES, VERSION, &payload)?)
}

/// Takes a directory for a node. Another node's is refused.
pub(crate) fn claim(disk: &dyn Disk, node_id: i32) -> Result<()> {
    match read(disk)? {
        None => write(disk, &Properties { node_id, cluster_id: String::new() }),
        Some(found) if found.node_id == node_id => Ok(()),
        Some(found) => {
            let message = format!(
                "{} belongs to node {}, this one is node {node_id}: use its own directory, or start it as node {}",
                disk.root().display(),
                found.node_id,
                found.node_id
            );
            Err(Error::invalid("node_id", message))
        }
    }
}

/// Notes the cluster of a directory. Another cluster's is refused: its metadata and its logs do not belong together.
pub(crate) fn join(disk: &dyn Disk, node_id: i32, cluster_id: &str) -> Result<()> {
    let found = read(disk)?.map(|found| found.cluster_id).unwrap_or_default();
    if found == cluster_id {
        return Ok(());
    }
    if found.is_empty() {
        return write(disk, &Properties { node_id, cluster_id: cluster_id.to_owned() });
    }
    let message = format!(
        "{} belongs to cluster {found}, but its metadata say {cluster_id}: parts of it are missing, restore it from a copy",
        disk.root().display()
    );
    Err(Error::new(ErrorCode::CorruptLog, message))
}

#[cfg(test)]
mod tests {
    use sunseo_log::faulty::FaultyDisk;

    use super::*;

    #[test]
    fn a_directory_keeps_its_node_and_its_cluster() {
        let disk = FaultyDisk::new(1);
        claim(&disk, 7).expect("the first one takes it");
        claim(&disk, 7).expect("it is its own");
        assert_eq!(claim(&disk, 8).expect_err("another node").code, ErrorCode::InvalidArgument);
        join(&disk, 7, "a").expect("the first cluster");
        join(&disk, 7, "a").expect("the same cluster");
        assert_eq!(join(&disk, 7, "b").expect_err("another cluster").code, ErrorCode::CorruptLog);
        disk.flip_bit(Path::new(FILE), 14).expect("is there");
        assert_eq!(claim(&disk, 7).expect_err("damaged").code, ErrorCode::CorruptLog);
    }
}
