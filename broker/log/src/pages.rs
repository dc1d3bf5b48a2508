//! Bytes that begin at a page of memory and end with one, so that they can be written past the page cache.

/// Bytes of a page; what is written past the page cache begins and ends at multiples of it, in memory and in the file.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A buffer that grows and keeps its beginning on a page.
#[derive(Debug, Default)]
pub(crate) struct PageBuffer {
    /// Never grown by `Vec` itself, which would move it.
    memory: Vec<u8>,
    /// Where the first page begins.
    start: usize,
}

impl PageBuffer {
    pub(crate) fn clear(&mut self) {
        self.memory.truncate(self.start);
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Adds zeros up to the end of the page.
    pub(crate) fn fill_page(&mut self) {
        let missing = self.len().next_multiple_of(PAGE_BYTES) - self.len();
        self.reserve(missing);
        self.memory.resize(self.memory.len() + missing, 0);
    }

    fn reserve(&mut self, more: usize) {
        let wanted = self.memory.len() + more;
        if wanted <= self.memory.capacity() {
            return;
        }
        let room = (self.len() + more).max(self.len() * 2).next_multiple_of(PAGE_BYTES);
        let mut memory: Vec<u8> = Vec::with_capacity(room + PAGE_BYTES);
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        memory.resize(start, 0);
        memory.extend_from_slice(self.as_slice());
        (self.memory, self.start) = (memory, start);
    }
}

/// Whether bytes may be written past the page cache at this place.
pub(crate) fn are_pages(bytes: &[u8], at: u64) -> bool {
    bytes.as_ptr().align_offset(PAGE_BYTES) == 0
        && bytes.len().is_multiple_of(PAGE_BYTES)
        && at.is_multiple_of(PAGE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_bytes_and_its_page_however_it_grows() {
        let (mut buffer, mut expect) = (PageBuffer::default(), Vec::new());
        for round in 0..3_u8 {
            buffer.clear();
            expect.clear();
            for n in [1_usize, 10, 4_000, 5_000, 100_000, 3] {
                let part = vec![round.wrapping_add(n as u8); n];
                buffer.extend_from_slice(&part);
                expect.extend_from_slice(&part);
                assert_eq!(buffer.as_slice(), expect);
                assert_eq!(buffer.as_slice().as_ptr().align_offset(PAGE_BYTES), 0);
            }
            buffer.fill_page();
            expect.resize(expect.len().next_multiple_of(PAGE_BYTES), 0);
            assert_eq!(buffer.as_slice(), expect);
            assert!(are_pages(buffer.as_slice(), 8192) && !are_pages(&buffer.as_slice()[1..], 0));
        }
    }
}
