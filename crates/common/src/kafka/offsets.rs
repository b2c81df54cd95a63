//! The metadata of committed offsets, as the bytes that they are.
//!
//! rdkafka's own accessor takes them for UTF-8 and panics where they are not; but anybody may have committed anything.

use rdkafka::TopicPartitionList;

/// The metadata of each element, in the list's order; empty where there is none.
#[must_use]
#[expect(unsafe_code, reason = "the only way to the bytes that does not panic on some of them")]
pub fn metadata(list: &TopicPartitionList) -> Vec<Vec<u8>> {
    let of = |at: usize| {
        // SAFETY: the list owns `count` elements, `at` is below that, and nothing changes them while it is borrowed.
        let element = unsafe { &*(*list.ptr()).elems.add(at) };
        if element.metadata.is_null() {
            return Vec::new();
        }
        // SAFETY: librdkafka keeps `metadata_size` bytes behind `metadata`, for as long as the list lives.
        unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }.to_vec()
    };
    (0..list.count()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_for_each_element_and_is_empty_where_there_is_none() {
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 0).set_metadata("{\"version\":1}");
        list.add_partition("t", 1);
        assert_eq!(metadata(&list), [b"{\"version\":1}".to_vec(), Vec::new()]);
        assert!(metadata(&TopicPartitionList::new()).is_empty());
    }
}
