//! Weights that are infinite or no numbers: what a failed training or a damaged file leaves.

use safetensors::Dtype;

/// The place of the first number that is infinite or none, in row-major order; `None` if all are
/// finite, or the elements are no floating-point numbers.
pub fn first_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    // A number whose exponent is all ones is infinite or none.
    fn first<const N: usize>(bytes: &[u8], is_not: impl Fn([u8; N]) -> bool) -> Option<usize> {
        const TOGETHER: usize = 1024;
        // Whole runs first, without leaving a run early: that is done many at a time.
        let (elements, _) = bytes.as_chunks::<N>();
        let in_run = |run: &[[u8; N]]| run.iter().fold(false, |any, &one| any | is_not(one));
        let (run, _) = elements.chunks(TOGETHER).enumerate().find(|(_, run)| in_run(run))?;
        let within = elements[run * TOGETHER..].iter().position(|&one| is_not(one))?;
        Some(run * TOGETHER + within)
    }
    let ones16 = |mask: u16| move |bytes| u16::from_le_bytes(bytes) & mask == mask;
    match dtype {
        Dtype::F64 => first(bytes, |bytes| !f64::from_le_bytes(bytes).is_finite()),
        Dtype::F32 => first(bytes, |bytes| !f32::from_le_bytes(bytes).is_finite()),
        Dtype::F16 => first(bytes, ones16(0x7c00)),
        Dtype::BF16 => first(bytes, ones16(0x7f80)),
        _ => None,
    }
}

/// The floating-point number at a place.
pub fn number_at(dtype: Dtype, bytes: &[u8], at: usize) -> f64 {
    let size = dtype.bitsize() / 8;
    let element = bytes.get(at * size..(at + 1) * size).unwrap_or_default();
    match (dtype, element) {
        (Dtype::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
        (Dtype::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).into(),
        (Dtype::BF16, &[a, b]) => half::bf16::from_le_bytes([a, b]).into(),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_found_wherever_it_is() {
        for count in [1, 1023, 1024, 1025, 5000] {
            for at in [0, count / 2, count - 1] {
                let mut numbers = vec![1.5f32; count];
                let bytes = |numbers: &[f32]| -> Vec<u8> {
                    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
                };
                assert_eq!(first_not_finite(Dtype::F32, &bytes(&numbers)), None);
                numbers[at] = f32::NEG_INFINITY;
                assert_eq!(first_not_finite(Dtype::F32, &bytes(&numbers)), Some(at));
            }
        }
        let halves = |bits: u16| [0x3c00_u16, bits].iter().flat_map(|n| n.to_le_bytes()).collect();
        let found =
            |dtype, bits| first_not_finite(dtype, &Vec::<u8>::from_iter::<Vec<u8>>(halves(bits)));
        assert_eq!([found(Dtype::F16, 0x7bff), found(Dtype::F16, 0xfc00)], [None, Some(1)]);
        assert_eq!([found(Dtype::BF16, 0x7f7f), found(Dtype::BF16, 0x7fc0)], [None, Some(1)]);
        assert_eq!(first_not_finite(Dtype::I64, &[0xff; 8]), None);
    }
}
