//! Whatever is compressed comes back byte for byte.

#[test]
fn every_block_of_the_corpus_survives_the_round_trip() {
    for (number, block) in harness::corpus().iter().enumerate() {
        let compressed = lz4_flex::block::compress(block);
        let restored = lz4_flex::block::decompress(&compressed, block.len()).expect("decompress");
        assert!(restored == *block, "block {number} of {} bytes differs", block.len());
    }
}

#[test]
fn compressed_blocks_carry_their_size_where_asked() {
    for block in harness::corpus().iter().take(12) {
        let compressed = lz4_flex::block::compress_prepend_size(block);
        assert!(lz4_flex::block::decompress_size_prepended(&compressed).expect("decompress") == *block);
    }
}

#[test]
fn compressible_data_shrinks() {
    let block = b"to be or not to be, that is the question. ".repeat(1000);
    assert!(lz4_flex::block::compress(&block).len() < block.len() / 10);
}
