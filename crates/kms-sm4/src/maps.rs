//! How SM4's S-box follows from that of AES. Everything here is computed by the compiler.
//!
//! The S-box is S(x) = A·(A·x ⊕ 0xd3)⁻¹ ⊕ 0xd3, the inverse being taken in GF(2)[x]/(x⁸+x⁷+x⁶+x⁵+x⁴+x²+1). That of AES
//! is B·y⁻¹ ⊕ 0x63 in GF(2)[x]/(x⁸+x⁴+x³+x+1). Both fields have 256 elements, so there is an isomorphism φ from the first
//! to the second, and S(x) = A·φ⁻¹·B⁻¹·(AES(φ·A·x ⊕ φ·0xd3) ⊕ 0x63) ⊕ 0xd3.
// GB/T 32907-2016 §6.2 gives the table; Liu et al., "Analysis of the SMS4 block cipher" (ACISP 2007), its algebra.

const SM4_CONSTANT: u8 = 0xd3;
const AES_CONSTANT: u8 = 0x63;
const SM4_POLYNOMIAL: u16 = 0b1_1111_0101;
const AES_POLYNOMIAL: u16 = 0b1_0001_1011;

/// An affine map of bytes, in two tables whose sum it is.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    /// By the lower four bits.
    pub(crate) of_low_half: [u8; 16],
    /// By the upper four bits.
    pub(crate) of_high_half: [u8; 16],
}

impl Affine {
    const fn new(linear: Linear, constant: u8) -> Self {
        let (mut of_low_half, mut of_high_half) = ([0; 16], [0; 16]);
        let mut half = 0;
        while half < 16 {
            of_low_half[half as usize] = linear.of(half) ^ constant;
            of_high_half[half as usize] = linear.of(half << 4);
            half += 1;
        }
        Self { of_low_half, of_high_half }
    }
}

/// A linear map of bytes: the images of their bits, the lowest first.
#[derive(Clone, Copy)]
struct Linear([u8; 8]);

/// A of SM4's S-box.
const SM4_MATRIX: Linear = Linear::circulant(0b1100_1011);
/// B of AES' S-box.
const AES_MATRIX: Linear = Linear::circulant(0b0001_1111);

/// What goes before AES' S-box to make it that of SM4.
pub(crate) const BEFORE_AES: Affine =
    Affine::new(ISOMORPHISM.after(SM4_MATRIX), ISOMORPHISM.of(SM4_CONSTANT));

/// What goes behind AES' S-box to make it that of SM4.
pub(crate) const BEHIND_AES: Affine = {
    let linear = SM4_MATRIX.after(ISOMORPHISM.inverse()).after(AES_MATRIX.inverse());
    Affine::new(linear, linear.of(AES_CONSTANT) ^ SM4_CONSTANT)
};

/// φ: the powers of a root of SM4's polynomial in the field of AES.
const ISOMORPHISM: Linear = {
    let mut root = 2;
    while !is_root(root) {
        root += 1;
    }
    let mut images = [1; 8];
    let mut bit = 1;
    while bit < 8 {
        images[bit] = aes_product(images[bit - 1], root);
        bit += 1;
    }
    Linear(images)
};

impl Linear {
    /// The image of each bit is that of the lowest bit, turned.
    const fn circulant(image: u8) -> Self {
        let mut images = [0; 8];
        let mut bit = 0_u32;
        while bit < 8 {
            images[bit as usize] = image.rotate_left(bit);
            bit += 1;
        }
        Self(images)
    }

    /// The image of a byte.
    const fn of(self, byte: u8) -> u8 {
        let mut image = 0;
        let mut bit = 0;
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                image ^= self.0[bit];
            }
            bit += 1;
        }
        image
    }

    /// The inverse of a map that has one.
    const fn inverse(self) -> Self {
        let mut images = [0; 8];
        let mut byte = 0;
        while byte < 255 {
            byte += 1;
            let image = self.of(byte);
            if image.is_power_of_two() {
                images[image.trailing_zeros() as usize] = byte;
            }
        }
        Self(images)
    }

    /// First the other map, then this one.
    const fn after(self, first: Self) -> Self {
        let mut images = first.0;
        let mut bit = 0;
        while bit < 8 {
            images[bit] = self.of(images[bit]);
            bit += 1;
        }
        Self(images)
    }
}

/// Whether SM4's polynomial is zero there, in the field of AES.
const fn is_root(element: u8) -> bool {
    let (mut sum, mut power, mut exponent) = (0, 1, 0);
    while exponent < 9 {
        if SM4_POLYNOMIAL >> exponent & 1 == 1 {
            sum ^= power;
        }
        power = aes_product(power, element);
        exponent += 1;
    }
    sum == 0
}

/// The product in the field of AES.
const fn aes_product(left: u8, right: u8) -> u8 {
    let (mut product, mut bit) = (0_u16, 8);
    while bit > 0 {
        bit -= 1;
        product <<= 1;
        if product > 0xff {
            product ^= AES_POLYNOMIAL;
        }
        if left >> bit & 1 == 1 {
            product ^= right as u16;
        }
    }
    product.to_le_bytes()[0]
}
