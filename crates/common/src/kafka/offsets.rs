//! The metadata of committed offsets, as bytes.
//!
//! rdkafka's accessor panics if metadata is not UTF-8, and any program may have committed any bytes.

use rdkafka::TopicPartitionList;

/// The metadata of each element, in the order of the list; empty if there is none.
#[must_use]
#[expect(unsafe_code, reason = "the only way to the bytes that does not panic on some of them")]
pub fn metadata(list: &TopicPartitionList) -> Vec<Vec<u8>> {
    let of = |at: usize| {
        // SAFETY: the list has `count` elements, `at` is below that, and nothing changes them while the list is borrowed.
        let element = unsafe { &*(*list.ptr()).elems.add(at) };
        if element.metadata.is_null() {
            return Vec::new();
        }
        // SAFETY: `metadata` points to `metadata_size` bytes that live as long as the list.
        unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }.to_vec()
    };
    (0..list.count()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_has_its_metadata_or_none() {
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 0).set_metadata("{\"version\":1}");
        list.add_partition("t", 1);
        assert_eq!(metadata(&list), [b"{\"version\":1}".to_vec(), Vec::new()]);
        assert!(metadata(&TopicPartitionList::new()).is_empty());
    }
}
