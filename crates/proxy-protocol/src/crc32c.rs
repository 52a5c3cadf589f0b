//! CRC-32C (Castagnoli), the checksum of `PP2_TYPE_CRC32C`. A header is short and rarely has one,
//! so a table of 256 words is enough.

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The checksum of `bytes` with the four bytes at `hole` taken as zero.
pub(crate) fn checksum_with_hole(bytes: &[u8], hole: usize) -> u32 {
    let step = |crc: u32, (at, byte): (usize, &u8)| {
        let byte = if (hole..hole + 4).contains(&at) { 0 } else { *byte };
        (crc >> 8) ^ TABLE[usize::from((crc as u8) ^ byte)]
    };
    !bytes.iter().enumerate().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::checksum_with_hole;

    #[test]
    fn the_check_value_of_crc32c() {
        assert_eq!(checksum_with_hole(b"123456789", 9), 0xe306_9283);
        assert_eq!(checksum_with_hole(&[0; 32], 0), 0x8a91_36aa); // RFC 3720 B.4
        assert_eq!(checksum_with_hole(&[0xff; 32], 32), 0x62a8_ab43);
    }
}
