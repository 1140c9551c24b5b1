//! SM4-GCM (RFC 8998, NIST SP 800-38D) for bulk data.
//!
//! [`Sm4Gcm`] is used as any other AEAD of the `aead` crate. SM4 is computed on many blocks at once and without a
//! lookup whose place depends on a secret: on processors of x86-64 with AVX2 and AES-NI through the S-box of AES
//! (`x86`), on all others in bit slices (`bit_slices`). `docs/adr/0018-sm4-in-our-own-code.md` says why it is here.

mod bit_slices;
mod cipher;
mod gcm;
#[cfg(target_arch = "x86_64")]
mod maps;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use gcm::Sm4Gcm;
