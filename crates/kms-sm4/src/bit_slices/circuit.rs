//! The S-box as a circuit of 123 gates: 36 products and 87 sums of bits.
//!
//! The inversion is done in a tower of fields. An element of GF(256) is a·Y¹⁶ + b·Y with a and b of GF(16); its inverse
//! is (b·Y¹⁶ + a·Y) ∕ n, with the norm n = a·b·(Y + Y¹⁶)² + (a + b)²·Y¹⁷, an element of GF(16), which is inverted in the
//! same way over GF(4), where inverting is squaring and so costs nothing. A product of GF(16) is nine products of bits
//! (Karatsuba, twice). Among all bases this one was found by search to need few gates for the sums between, which are
//! shared; the first and the last of them hold A and the change of basis, too.

/// The S-box without its constants, A·(A·x)⁻¹, on as many bytes at once as a lane has bits; each byte's lowest bit first.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the loop around it becomes vector instructions only if this is part of it"
)]
#[expect(clippy::too_many_lines, reason = "a circuit of numbered wires")]
pub(super) fn without_constants([x0, x1, x2, x3, x4, x5, x6, x7]: [u64; 8]) -> [u64; 8] {
    // The input over a basis of GF(16), as sums that the products below take.
    let v0 = x4 ^ x7;
    let v1 = x3 ^ x5;
    let v2 = x2 ^ x6;
    let v3 = x0 ^ v1;
    let v4 = x1 ^ x5;
    let v5 = x0 ^ v0;
    let v6 = x3 ^ v5;
    let v7 = x1 ^ v2;
    let v8 = x1 ^ v3;
    let v9 = x2 ^ x4;
    let v10 = v0 ^ v4;
    let v11 = x4 ^ v7;
    let v12 = x5 ^ v0;
    let v13 = v2 ^ v10;
    let v14 = v1 ^ v9;
    let v15 = x7 ^ v1;
    let v16 = x1 ^ x3;
    let v17 = x2 ^ v5;
    let v18 = v0 ^ v8;
    let v19 = x0 ^ v11;
    let v20 = x0 ^ v4;
    let v21 = v3 ^ v9;
    let v22 = x2 ^ v10;
    let v23 = v2 ^ v6;
    let v24 = x7 ^ v16;
    // a·b and the norm, an element of GF(16).
    let v25 = v15 & v2;
    let v26 = v17 & v7;
    let v27 = v21 & x1;
    let v28 = v24 & v23;
    let v29 = v22 & v13;
    let v30 = v14 & v8;
    let v31 = v4 & v6;
    let v32 = v20 & v12;
    let v33 = x0 & v3;
    let v34 = v28 ^ v29;
    let v35 = v29 ^ v30;
    let v36 = v33 ^ x6;
    let v37 = v18 ^ v35;
    let v38 = v31 ^ v34;
    let v39 = v25 ^ v27;
    let v40 = v19 ^ v38;
    let v41 = v26 ^ v27;
    let v42 = v34 ^ v41;
    let v43 = v37 ^ v39;
    let v44 = v32 ^ v36;
    let v45 = v35 ^ v44;
    let v46 = v1 ^ v42;
    let v47 = v32 ^ v40;
    // The inverse of the norm, in the same way over GF(4).
    let v48 = v45 ^ v47;
    let v49 = v43 ^ v46;
    let v50 = v45 & v43;
    let v51 = v47 & v46;
    let v52 = v48 & v49;
    let v53 = v51 ^ v43;
    let v54 = v52 ^ v47;
    let v55 = v53 ^ v54;
    let v56 = v45 ^ v53;
    let v57 = v46 ^ v56;
    let v58 = v50 ^ v57;
    let v59 = v58 ^ v55;
    let v60 = v45 & v58;
    let v61 = v47 & v55;
    let v62 = v48 & v59;
    let v63 = v43 & v58;
    let v64 = v46 & v55;
    let v65 = v49 & v59;
    let v66 = v60 ^ v61;
    let v67 = v61 ^ v62;
    let v68 = v63 ^ v64;
    let v69 = v64 ^ v65;
    let v70 = v60 ^ v62;
    let v71 = v63 ^ v65;
    let v72 = v69 ^ v70;
    let v73 = v66 ^ v71;
    let v74 = v67 ^ v68;
    // The inverse of the norm, times each half of the input: the inverse in GF(256).
    let v75 = v68 & v2;
    let v76 = v71 & v7;
    let v77 = v69 & x1;
    let v78 = v67 & v23;
    let v79 = v66 & v13;
    let v80 = v70 & v8;
    let v81 = v74 & v6;
    let v82 = v73 & v12;
    let v83 = v72 & v3;
    let v84 = v68 & v15;
    let v85 = v71 & v17;
    let v86 = v69 & v21;
    let v87 = v67 & v24;
    let v88 = v66 & v22;
    let v89 = v70 & v14;
    let v90 = v74 & v4;
    let v91 = v73 & v20;
    let v92 = v72 & x0;
    // Back to the bits of a byte, with the outer matrix.
    let v93 = v77 ^ v85;
    let v94 = v78 ^ v80;
    let v95 = v86 ^ v93;
    let v96 = v81 ^ v82;
    let v97 = v90 ^ v96;
    let v98 = v76 ^ v87;
    let v99 = v91 ^ v95;
    let v100 = v75 ^ v94;
    let v101 = v78 ^ v99;
    let v102 = v89 ^ v98;
    let v103 = v92 ^ v102;
    let v104 = v79 ^ v101;
    let v105 = v97 ^ v100;
    let v106 = v88 ^ v91;
    let v107 = v89 ^ v106;
    let v108 = v88 ^ v98;
    let v109 = v96 ^ v108;
    let v110 = v84 ^ v107;
    let v111 = v103 ^ v104;
    let v112 = v76 ^ v100;
    let v113 = v93 ^ v105;
    let v114 = v83 ^ v94;
    let v115 = v77 ^ v103;
    let v116 = v81 ^ v114;
    let v117 = v90 ^ v104;
    let v118 = v95 ^ v109;
    let v119 = v97 ^ v115;
    let v120 = v76 ^ v117;
    let v121 = v110 ^ v113;
    let v122 = v99 ^ v105;
    [v111, v122, v119, v112, v120, v118, v121, v116]
}
