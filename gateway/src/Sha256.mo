/// SHA-256 (FIPS 180-4) over a list of parts, as if they were one message. The core library has none.
///
/// Written for a compiler whose words have 64 bits. A 32-bit word x is held twice in a Nat64, as x * (2^32 + 1): the
/// low half of a shift to the right is then a rotation of x. After every sum the high half is made equal again. The
/// rounds are written out and their words are local variables, because an array access costs as much as a round.
import Blob "mo:core/Blob";
import Nat8 "mo:core/Nat8";
import Nat16 "mo:core/Nat16";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import VarArray "mo:core/VarArray";

module {
  let blockBytes : Nat64 = 64;

  /// Nat64 indices: arithmetic on Nat looks for numbers beyond a word each time.
  func byte(message : Blob, at : Nat64) : Nat32 = Nat16.toNat32(Nat8.toNat16(message[Nat64.toNat at]));

  func word(message : Blob, at : Nat64) : Nat64 = Nat32.toNat64(
    (byte(message, at) << 24) | (byte(message, at +% 1) << 16) | (byte(message, at +% 2) << 8) | byte(message, at +% 3)
  ) *% 0x1_0000_0001;

  /// The 64 bytes of `message` at `from`, taken into `state`.
  func compress(state : [var Nat64], message : Blob, from : Nat64) {
    let low : Nat64 = 0xffff_ffff;
    let twice : Nat64 = 0x1_0000_0001;
    var w0 = word(message, from +% 0);
    var w1 = word(message, from +% 4);
    var w2 = word(message, from +% 8);
    var w3 = word(message, from +% 12);
    var w4 = word(message, from +% 16);
    var w5 = word(message, from +% 20);
    var w6 = word(message, from +% 24);
    var w7 = word(message, from +% 28);
    var w8 = word(message, from +% 32);
    var w9 = word(message, from +% 36);
    var w10 = word(message, from +% 40);
    var w11 = word(message, from +% 44);
    var w12 = word(message, from +% 48);
    var w13 = word(message, from +% 52);
    var w14 = word(message, from +% 56);
    var w15 = word(message, from +% 60);
    var a = state[0];
    var b = state[1];
    var c = state[2];
    var d = state[3];
    var e = state[4];
    var f = state[5];
    var g = state[6];
    var h = state[7];
    h +%= w0 +% 0x428a2f98 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    g +%= w1 +% 0x71374491 +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    f +%= w2 +% 0xb5c0fbcf +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    e +%= w3 +% 0xe9b5dba5 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    d +%= w4 +% 0x3956c25b +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    c +%= w5 +% 0x59f111f1 +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    b +%= w6 +% 0x923f82a4 +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    a +%= w7 +% 0xab1c5ed5 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    h +%= w8 +% 0xd807aa98 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    g +%= w9 +% 0x12835b01 +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    f +%= w10 +% 0x243185be +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    e +%= w11 +% 0x550c7dc3 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    d +%= w12 +% 0x72be5d74 +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    c +%= w13 +% 0x80deb1fe +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    b +%= w14 +% 0x9bdc06a7 +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    a +%= w15 +% 0xc19bf174 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    w0 := ((w0 +% w9 +% ((w1 >> 7) ^ (w1 >> 18) ^ ((w1 & low) >> 3)) +% ((w14 >> 17) ^ (w14 >> 19) ^ ((w14 & low) >> 10))) & low) *% twice;
    h +%= w0 +% 0xe49b69c1 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    w1 := ((w1 +% w10 +% ((w2 >> 7) ^ (w2 >> 18) ^ ((w2 & low) >> 3)) +% ((w15 >> 17) ^ (w15 >> 19) ^ ((w15 & low) >> 10))) & low) *% twice;
    g +%= w1 +% 0xefbe4786 +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    w2 := ((w2 +% w11 +% ((w3 >> 7) ^ (w3 >> 18) ^ ((w3 & low) >> 3)) +% ((w0 >> 17) ^ (w0 >> 19) ^ ((w0 & low) >> 10))) & low) *% twice;
    f +%= w2 +% 0x0fc19dc6 +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    w3 := ((w3 +% w12 +% ((w4 >> 7) ^ (w4 >> 18) ^ ((w4 & low) >> 3)) +% ((w1 >> 17) ^ (w1 >> 19) ^ ((w1 & low) >> 10))) & low) *% twice;
    e +%= w3 +% 0x240ca1cc +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    w4 := ((w4 +% w13 +% ((w5 >> 7) ^ (w5 >> 18) ^ ((w5 & low) >> 3)) +% ((w2 >> 17) ^ (w2 >> 19) ^ ((w2 & low) >> 10))) & low) *% twice;
    d +%= w4 +% 0x2de92c6f +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    w5 := ((w5 +% w14 +% ((w6 >> 7) ^ (w6 >> 18) ^ ((w6 & low) >> 3)) +% ((w3 >> 17) ^ (w3 >> 19) ^ ((w3 & low) >> 10))) & low) *% twice;
    c +%= w5 +% 0x4a7484aa +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    w6 := ((w6 +% w15 +% ((w7 >> 7) ^ (w7 >> 18) ^ ((w7 & low) >> 3)) +% ((w4 >> 17) ^ (w4 >> 19) ^ ((w4 & low) >> 10))) & low) *% twice;
    b +%= w6 +% 0x5cb0a9dc +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    w7 := ((w7 +% w0 +% ((w8 >> 7) ^ (w8 >> 18) ^ ((w8 & low) >> 3)) +% ((w5 >> 17) ^ (w5 >> 19) ^ ((w5 & low) >> 10))) & low) *% twice;
    a +%= w7 +% 0x76f988da +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    w8 := ((w8 +% w1 +% ((w9 >> 7) ^ (w9 >> 18) ^ ((w9 & low) >> 3)) +% ((w6 >> 17) ^ (w6 >> 19) ^ ((w6 & low) >> 10))) & low) *% twice;
    h +%= w8 +% 0x983e5152 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    w9 := ((w9 +% w2 +% ((w10 >> 7) ^ (w10 >> 18) ^ ((w10 & low) >> 3)) +% ((w7 >> 17) ^ (w7 >> 19) ^ ((w7 & low) >> 10))) & low) *% twice;
    g +%= w9 +% 0xa831c66d +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    w10 := ((w10 +% w3 +% ((w11 >> 7) ^ (w11 >> 18) ^ ((w11 & low) >> 3)) +% ((w8 >> 17) ^ (w8 >> 19) ^ ((w8 & low) >> 10))) & low) *% twice;
    f +%= w10 +% 0xb00327c8 +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    w11 := ((w11 +% w4 +% ((w12 >> 7) ^ (w12 >> 18) ^ ((w12 & low) >> 3)) +% ((w9 >> 17) ^ (w9 >> 19) ^ ((w9 & low) >> 10))) & low) *% twice;
    e +%= w11 +% 0xbf597fc7 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    w12 := ((w12 +% w5 +% ((w13 >> 7) ^ (w13 >> 18) ^ ((w13 & low) >> 3)) +% ((w10 >> 17) ^ (w10 >> 19) ^ ((w10 & low) >> 10))) & low) *% twice;
    d +%= w12 +% 0xc6e00bf3 +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    w13 := ((w13 +% w6 +% ((w14 >> 7) ^ (w14 >> 18) ^ ((w14 & low) >> 3)) +% ((w11 >> 17) ^ (w11 >> 19) ^ ((w11 & low) >> 10))) & low) *% twice;
    c +%= w13 +% 0xd5a79147 +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    w14 := ((w14 +% w7 +% ((w15 >> 7) ^ (w15 >> 18) ^ ((w15 & low) >> 3)) +% ((w12 >> 17) ^ (w12 >> 19) ^ ((w12 & low) >> 10))) & low) *% twice;
    b +%= w14 +% 0x06ca6351 +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    w15 := ((w15 +% w8 +% ((w0 >> 7) ^ (w0 >> 18) ^ ((w0 & low) >> 3)) +% ((w13 >> 17) ^ (w13 >> 19) ^ ((w13 & low) >> 10))) & low) *% twice;
    a +%= w15 +% 0x14292967 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    w0 := ((w0 +% w9 +% ((w1 >> 7) ^ (w1 >> 18) ^ ((w1 & low) >> 3)) +% ((w14 >> 17) ^ (w14 >> 19) ^ ((w14 & low) >> 10))) & low) *% twice;
    h +%= w0 +% 0x27b70a85 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    w1 := ((w1 +% w10 +% ((w2 >> 7) ^ (w2 >> 18) ^ ((w2 & low) >> 3)) +% ((w15 >> 17) ^ (w15 >> 19) ^ ((w15 & low) >> 10))) & low) *% twice;
    g +%= w1 +% 0x2e1b2138 +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    w2 := ((w2 +% w11 +% ((w3 >> 7) ^ (w3 >> 18) ^ ((w3 & low) >> 3)) +% ((w0 >> 17) ^ (w0 >> 19) ^ ((w0 & low) >> 10))) & low) *% twice;
    f +%= w2 +% 0x4d2c6dfc +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    w3 := ((w3 +% w12 +% ((w4 >> 7) ^ (w4 >> 18) ^ ((w4 & low) >> 3)) +% ((w1 >> 17) ^ (w1 >> 19) ^ ((w1 & low) >> 10))) & low) *% twice;
    e +%= w3 +% 0x53380d13 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    w4 := ((w4 +% w13 +% ((w5 >> 7) ^ (w5 >> 18) ^ ((w5 & low) >> 3)) +% ((w2 >> 17) ^ (w2 >> 19) ^ ((w2 & low) >> 10))) & low) *% twice;
    d +%= w4 +% 0x650a7354 +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    w5 := ((w5 +% w14 +% ((w6 >> 7) ^ (w6 >> 18) ^ ((w6 & low) >> 3)) +% ((w3 >> 17) ^ (w3 >> 19) ^ ((w3 & low) >> 10))) & low) *% twice;
    c +%= w5 +% 0x766a0abb +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    w6 := ((w6 +% w15 +% ((w7 >> 7) ^ (w7 >> 18) ^ ((w7 & low) >> 3)) +% ((w4 >> 17) ^ (w4 >> 19) ^ ((w4 & low) >> 10))) & low) *% twice;
    b +%= w6 +% 0x81c2c92e +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    w7 := ((w7 +% w0 +% ((w8 >> 7) ^ (w8 >> 18) ^ ((w8 & low) >> 3)) +% ((w5 >> 17) ^ (w5 >> 19) ^ ((w5 & low) >> 10))) & low) *% twice;
    a +%= w7 +% 0x92722c85 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    w8 := ((w8 +% w1 +% ((w9 >> 7) ^ (w9 >> 18) ^ ((w9 & low) >> 3)) +% ((w6 >> 17) ^ (w6 >> 19) ^ ((w6 & low) >> 10))) & low) *% twice;
    h +%= w8 +% 0xa2bfe8a1 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    w9 := ((w9 +% w2 +% ((w10 >> 7) ^ (w10 >> 18) ^ ((w10 & low) >> 3)) +% ((w7 >> 17) ^ (w7 >> 19) ^ ((w7 & low) >> 10))) & low) *% twice;
    g +%= w9 +% 0xa81a664b +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    w10 := ((w10 +% w3 +% ((w11 >> 7) ^ (w11 >> 18) ^ ((w11 & low) >> 3)) +% ((w8 >> 17) ^ (w8 >> 19) ^ ((w8 & low) >> 10))) & low) *% twice;
    f +%= w10 +% 0xc24b8b70 +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    w11 := ((w11 +% w4 +% ((w12 >> 7) ^ (w12 >> 18) ^ ((w12 & low) >> 3)) +% ((w9 >> 17) ^ (w9 >> 19) ^ ((w9 & low) >> 10))) & low) *% twice;
    e +%= w11 +% 0xc76c51a3 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    w12 := ((w12 +% w5 +% ((w13 >> 7) ^ (w13 >> 18) ^ ((w13 & low) >> 3)) +% ((w10 >> 17) ^ (w10 >> 19) ^ ((w10 & low) >> 10))) & low) *% twice;
    d +%= w12 +% 0xd192e819 +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    w13 := ((w13 +% w6 +% ((w14 >> 7) ^ (w14 >> 18) ^ ((w14 & low) >> 3)) +% ((w11 >> 17) ^ (w11 >> 19) ^ ((w11 & low) >> 10))) & low) *% twice;
    c +%= w13 +% 0xd6990624 +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    w14 := ((w14 +% w7 +% ((w15 >> 7) ^ (w15 >> 18) ^ ((w15 & low) >> 3)) +% ((w12 >> 17) ^ (w12 >> 19) ^ ((w12 & low) >> 10))) & low) *% twice;
    b +%= w14 +% 0xf40e3585 +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    w15 := ((w15 +% w8 +% ((w0 >> 7) ^ (w0 >> 18) ^ ((w0 & low) >> 3)) +% ((w13 >> 17) ^ (w13 >> 19) ^ ((w13 & low) >> 10))) & low) *% twice;
    a +%= w15 +% 0x106aa070 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    w0 := ((w0 +% w9 +% ((w1 >> 7) ^ (w1 >> 18) ^ ((w1 & low) >> 3)) +% ((w14 >> 17) ^ (w14 >> 19) ^ ((w14 & low) >> 10))) & low) *% twice;
    h +%= w0 +% 0x19a4c116 +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    w1 := ((w1 +% w10 +% ((w2 >> 7) ^ (w2 >> 18) ^ ((w2 & low) >> 3)) +% ((w15 >> 17) ^ (w15 >> 19) ^ ((w15 & low) >> 10))) & low) *% twice;
    g +%= w1 +% 0x1e376c08 +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    w2 := ((w2 +% w11 +% ((w3 >> 7) ^ (w3 >> 18) ^ ((w3 & low) >> 3)) +% ((w0 >> 17) ^ (w0 >> 19) ^ ((w0 & low) >> 10))) & low) *% twice;
    f +%= w2 +% 0x2748774c +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    w3 := ((w3 +% w12 +% ((w4 >> 7) ^ (w4 >> 18) ^ ((w4 & low) >> 3)) +% ((w1 >> 17) ^ (w1 >> 19) ^ ((w1 & low) >> 10))) & low) *% twice;
    e +%= w3 +% 0x34b0bcb5 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    w4 := ((w4 +% w13 +% ((w5 >> 7) ^ (w5 >> 18) ^ ((w5 & low) >> 3)) +% ((w2 >> 17) ^ (w2 >> 19) ^ ((w2 & low) >> 10))) & low) *% twice;
    d +%= w4 +% 0x391c0cb3 +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    w5 := ((w5 +% w14 +% ((w6 >> 7) ^ (w6 >> 18) ^ ((w6 & low) >> 3)) +% ((w3 >> 17) ^ (w3 >> 19) ^ ((w3 & low) >> 10))) & low) *% twice;
    c +%= w5 +% 0x4ed8aa4a +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    w6 := ((w6 +% w15 +% ((w7 >> 7) ^ (w7 >> 18) ^ ((w7 & low) >> 3)) +% ((w4 >> 17) ^ (w4 >> 19) ^ ((w4 & low) >> 10))) & low) *% twice;
    b +%= w6 +% 0x5b9cca4f +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    w7 := ((w7 +% w0 +% ((w8 >> 7) ^ (w8 >> 18) ^ ((w8 & low) >> 3)) +% ((w5 >> 17) ^ (w5 >> 19) ^ ((w5 & low) >> 10))) & low) *% twice;
    a +%= w7 +% 0x682e6ff3 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    w8 := ((w8 +% w1 +% ((w9 >> 7) ^ (w9 >> 18) ^ ((w9 & low) >> 3)) +% ((w6 >> 17) ^ (w6 >> 19) ^ ((w6 & low) >> 10))) & low) *% twice;
    h +%= w8 +% 0x748f82ee +% ((e >> 6) ^ (e >> 11) ^ (e >> 25)) +% (g ^ (e & (f ^ g)));
    d := ((d +% h) & low) *% twice;
    h := ((h +% ((a >> 2) ^ (a >> 13) ^ (a >> 22)) +% ((a & b) ^ (c & (a ^ b)))) & low) *% twice;
    w9 := ((w9 +% w2 +% ((w10 >> 7) ^ (w10 >> 18) ^ ((w10 & low) >> 3)) +% ((w7 >> 17) ^ (w7 >> 19) ^ ((w7 & low) >> 10))) & low) *% twice;
    g +%= w9 +% 0x78a5636f +% ((d >> 6) ^ (d >> 11) ^ (d >> 25)) +% (f ^ (d & (e ^ f)));
    c := ((c +% g) & low) *% twice;
    g := ((g +% ((h >> 2) ^ (h >> 13) ^ (h >> 22)) +% ((h & a) ^ (b & (h ^ a)))) & low) *% twice;
    w10 := ((w10 +% w3 +% ((w11 >> 7) ^ (w11 >> 18) ^ ((w11 & low) >> 3)) +% ((w8 >> 17) ^ (w8 >> 19) ^ ((w8 & low) >> 10))) & low) *% twice;
    f +%= w10 +% 0x84c87814 +% ((c >> 6) ^ (c >> 11) ^ (c >> 25)) +% (e ^ (c & (d ^ e)));
    b := ((b +% f) & low) *% twice;
    f := ((f +% ((g >> 2) ^ (g >> 13) ^ (g >> 22)) +% ((g & h) ^ (a & (g ^ h)))) & low) *% twice;
    w11 := ((w11 +% w4 +% ((w12 >> 7) ^ (w12 >> 18) ^ ((w12 & low) >> 3)) +% ((w9 >> 17) ^ (w9 >> 19) ^ ((w9 & low) >> 10))) & low) *% twice;
    e +%= w11 +% 0x8cc70208 +% ((b >> 6) ^ (b >> 11) ^ (b >> 25)) +% (d ^ (b & (c ^ d)));
    a := ((a +% e) & low) *% twice;
    e := ((e +% ((f >> 2) ^ (f >> 13) ^ (f >> 22)) +% ((f & g) ^ (h & (f ^ g)))) & low) *% twice;
    w12 := ((w12 +% w5 +% ((w13 >> 7) ^ (w13 >> 18) ^ ((w13 & low) >> 3)) +% ((w10 >> 17) ^ (w10 >> 19) ^ ((w10 & low) >> 10))) & low) *% twice;
    d +%= w12 +% 0x90befffa +% ((a >> 6) ^ (a >> 11) ^ (a >> 25)) +% (c ^ (a & (b ^ c)));
    h := ((h +% d) & low) *% twice;
    d := ((d +% ((e >> 2) ^ (e >> 13) ^ (e >> 22)) +% ((e & f) ^ (g & (e ^ f)))) & low) *% twice;
    w13 := ((w13 +% w6 +% ((w14 >> 7) ^ (w14 >> 18) ^ ((w14 & low) >> 3)) +% ((w11 >> 17) ^ (w11 >> 19) ^ ((w11 & low) >> 10))) & low) *% twice;
    c +%= w13 +% 0xa4506ceb +% ((h >> 6) ^ (h >> 11) ^ (h >> 25)) +% (b ^ (h & (a ^ b)));
    g := ((g +% c) & low) *% twice;
    c := ((c +% ((d >> 2) ^ (d >> 13) ^ (d >> 22)) +% ((d & e) ^ (f & (d ^ e)))) & low) *% twice;
    w14 := ((w14 +% w7 +% ((w15 >> 7) ^ (w15 >> 18) ^ ((w15 & low) >> 3)) +% ((w12 >> 17) ^ (w12 >> 19) ^ ((w12 & low) >> 10))) & low) *% twice;
    b +%= w14 +% 0xbef9a3f7 +% ((g >> 6) ^ (g >> 11) ^ (g >> 25)) +% (a ^ (g & (h ^ a)));
    f := ((f +% b) & low) *% twice;
    b := ((b +% ((c >> 2) ^ (c >> 13) ^ (c >> 22)) +% ((c & d) ^ (e & (c ^ d)))) & low) *% twice;
    w15 := ((w15 +% w8 +% ((w0 >> 7) ^ (w0 >> 18) ^ ((w0 & low) >> 3)) +% ((w13 >> 17) ^ (w13 >> 19) ^ ((w13 & low) >> 10))) & low) *% twice;
    a +%= w15 +% 0xc67178f2 +% ((f >> 6) ^ (f >> 11) ^ (f >> 25)) +% (h ^ (f & (g ^ h)));
    e := ((e +% a) & low) *% twice;
    a := ((a +% ((b >> 2) ^ (b >> 13) ^ (b >> 22)) +% ((b & c) ^ (d & (b ^ c)))) & low) *% twice;
    state[0] := ((state[0] +% a) & low) *% twice;
    state[1] := ((state[1] +% b) & low) *% twice;
    state[2] := ((state[2] +% c) & low) *% twice;
    state[3] := ((state[3] +% d) & low) *% twice;
    state[4] := ((state[4] +% e) & low) *% twice;
    state[5] := ((state[5] +% f) & low) *% twice;
    state[6] := ((state[6] +% g) & low) *% twice;
    state[7] := ((state[7] +% h) & low) *% twice;
  };

  /// Parts are taken in where they lie; only what is left over at their ends is copied.
  class Hasher() {
    let state : [var Nat64] = [
      var 0x6a09e667_6a09e667, 0xbb67ae85_bb67ae85, 0x3c6ef372_3c6ef372, 0xa54ff53a_a54ff53a,
      0x510e527f_510e527f, 0x9b05688c_9b05688c, 0x1f83d9ab_1f83d9ab, 0x5be0cd19_5be0cd19,
    ];
    let rest = VarArray.repeat<Nat8>(0, 64);
    var restSize : Nat = 0;
    var size : Nat64 = 0;

    func feed(byte : Nat8) {
      rest[restSize] := byte;
      restSize += 1;
      if (restSize == 64) {
        compress(state, Blob.fromVarArray(rest), 0);
        restSize := 0;
      };
    };

    public func absorb(part : Blob) {
      let end = Nat64.fromNat(part.size());
      size +%= end;
      var at : Nat64 = 0;
      while (restSize > 0 and at < end) {
        feed(part[Nat64.toNat at]);
        at +%= 1;
      };
      while (at +% blockBytes <= end) {
        compress(state, part, at);
        at +%= blockBytes;
      };
      while (at < end) {
        feed(part[Nat64.toNat at]);
        at +%= 1;
      };
    };

    public func finish() : Blob {
      let bits = size *% 8;
      feed(0x80);
      while (restSize != 56) feed(0);
      var shift : Nat64 = 64;
      while (shift > 0) {
        shift -= 8;
        feed(lowest(bits >> shift));
      };
      let digest = VarArray.repeat<Nat8>(0, 32);
      for (index in digest.keys()) digest[index] := lowest(state[index / 4] >> Nat64.fromNat(24 - 8 * (index % 4)));
      Blob.fromVarArray(digest)
    };
  };

  func lowest(n : Nat64) : Nat8 = Nat8.fromNat(Nat64.toNat(n & 0xff));

  public func digest(parts : [Blob]) : Blob {
    let hasher = Hasher();
    for (part in parts.vals()) hasher.absorb(part);
    hasher.finish()
  };
};
