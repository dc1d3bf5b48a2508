//! Counts the plain records of a produce request while its bytes come in, before anything is made of them. Pure.
//!
//! A plain record may have two bytes on the wire and takes over a hundred as a value, so a message of an allowed length can ask for
//! gigabytes when it is decoded. This walks the wire format only as far as it must: request, partitions, list, record.
//! Bytes that are no message are not its business: it stops counting, and the decoder refuses them.

/// Field numbers on the way to a record: `ProduceRequest.partitions`, `ProducePartition.records`, `RecordList.records`.
const WAY: [u64; 3] = [2, 4, 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A field's number and type come.
    Tag,
    /// A number comes, which is not looked at.
    Value,
    /// The length of this field comes.
    Length(u64),
    Skip(u64),
    /// No message.
    Broken,
}

/// Counts in one message after the other.
#[derive(Debug)]
pub(crate) struct RecordCounter {
    state: State,
    at: u64,
    /// Where the messages on the way end, the innermost last.
    ends: Vec<u64>,
    /// Groups that are open. No message of ours has any, but the decoder passes over them like any field it does not know, and reads on.
    groups: usize,
    varint: u64,
    shift: u32,
    records: usize,
}

impl RecordCounter {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Tag,
            at: 0,
            ends: Vec::with_capacity(WAY.len()),
            groups: 0,
            varint: 0,
            shift: 0,
            records: 0,
        }
    }

    /// Another message begins.
    pub(crate) fn begin(&mut self) {
        self.ends.clear();
        (self.groups, self.varint, self.shift) = (0, 0, 0);
        (self.state, self.at, self.records) = (State::Tag, 0, 0);
    }

    /// Records that began so far.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// The next bytes of the message.
    pub(crate) fn feed(&mut self, mut data: &[u8]) {
        while let Some((&byte, rest)) = data.split_first() {
            match self.state {
                State::Broken => return,
                State::Skip(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    self.at += skipped as u64;
                    self.skip(left - skipped as u64);
                    data = &data[skipped..];
                    continue;
                }
                State::Tag if self.shift == 0 => while self.ends.pop_if(|end| *end <= self.at).is_some() {},
                State::Tag | State::Value | State::Length(_) => {}
            }
            data = rest;
            self.at += 1;
            self.varint |= u64::from(byte & 0x7F) << self.shift;
            if byte & 0x80 == 0 {
                self.shift = 0;
                let value = std::mem::take(&mut self.varint);
                self.number(value);
            } else {
                self.shift += 7;
                if self.shift >= u64::BITS {
                    self.state = State::Broken;
                }
            }
        }
    }

    fn skip(&mut self, bytes: u64) {
        self.state = if bytes == 0 { State::Tag } else { State::Skip(bytes) };
    }

    fn number(&mut self, value: u64) {
        match self.state {
            State::Tag => match value & 7 {
                0 => self.state = State::Value,
                1 => self.state = State::Skip(8),
                2 => self.state = State::Length(value >> 3),
                3 => self.groups += 1,
                4 if self.groups > 0 => self.groups -= 1,
                5 => self.state = State::Skip(4),
                _ => self.state = State::Broken,
            },
            State::Length(field) => self.open(field, value),
            State::Value | State::Skip(_) | State::Broken => self.state = State::Tag,
        }
    }

    fn open(&mut self, field: u64, bytes: u64) {
        let depth = self.ends.len();
        if self.groups > 0 || WAY.get(depth) != Some(&field) {
            return self.skip(bytes);
        }
        if depth + 1 == WAY.len() {
            self.records += 1;
            return self.skip(bytes);
        }
        match self.at.checked_add(bytes) {
            Some(end) => self.ends.push(end),
            None => self.state = State::Broken,
        }
        if self.state != State::Broken {
            self.state = State::Tag;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;
    use sunseo_proto::v1;

    use super::*;

    fn record() -> impl Strategy<Value = v1::Record> {
        let bytes =
            || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from));
        let header = (".{0,5}", bytes()).prop_map(|(key, value)| v1::Header { key, value });
        (bytes(), bytes(), proptest::collection::vec(header, 0..3), any::<i64>()).prop_map(
            |(key, value, headers, timestamp_ms)| v1::Record { key, value, headers, timestamp_ms, offset: 0 },
        )
    }

    fn partition() -> impl Strategy<Value = v1::ProducePartition> {
        let list = proptest::option::of(proptest::collection::vec(record(), 0..20));
        let batch =
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from));
        (".{0,9}", any::<i32>(), list, batch).prop_map(|(topic, partition, list, batch)| {
            v1::ProducePartition {
                topic,
                partition,
                batch,
                records: list.map(|records| v1::RecordList { records }),
                topic_id: Bytes::from_static(&[1; 16]),
            }
        })
    }

    /// A field that the decoder passes over must not hide the records behind it.
    #[test]
    fn records_behind_a_group_are_counted_and_those_in_it_are_none() {
        let list = v1::RecordList { records: vec![v1::Record::default(); 3] };
        let part = v1::ProducePartition { records: Some(list), ..Default::default() };
        let message = v1::ProduceRequest { partitions: vec![part], ..Default::default() }.encode_to_vec();
        let groups = [0x6b, 0x73, 0x12, 0x01, 0x0a, 0x74, 0x6c];
        let bytes = [&groups[..], &message].concat();
        assert_eq!(v1::ProduceRequest::decode(&bytes[..]).unwrap().partitions.len(), 1);
        let mut counter = RecordCounter::new();
        counter.feed(&bytes);
        assert_eq!(counter.records(), 3);
    }

    proptest! {
        #[test]
        fn records_are_counted_as_the_decoder_finds_them_however_the_bytes_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(partition(), 0..4), 1..3),
            cuts in proptest::collection::vec(1_usize..60, 1..30),
        ) {
            let mut counter = RecordCounter::new();
            for partitions in messages {
                let request = v1::ProduceRequest { correlation_id: 1 << 40, partitions, ..Default::default() };
                let bytes = request.encode_to_vec();
                counter.begin();
                let mut rest = bytes.as_slice();
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (part, after) = rest.split_at((*cut).min(rest.len()));
                    counter.feed(part);
                    rest = after;
                }
                let lists = request.partitions.iter().filter_map(|partition| partition.records.as_ref());
                prop_assert_eq!(counter.records(), lists.map(|list| list.records.len()).sum::<usize>());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut counter = RecordCounter::new();
            parts.iter().for_each(|part| counter.feed(part));
        }
    }
}
