/// SHA-256 (FIPS 180-4) over a list of parts, as if they were one message. The core library has none.
import Blob "mo:core/Blob";
import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";
import Nat8 "mo:core/Nat8";
import VarArray "mo:core/VarArray";

module {
  let roundConstants : [Nat32] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
  ];

  class Hasher() {
    let state : [var Nat32] = [
      var 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    ];
    let schedule : [var Nat32] = VarArray.repeat<Nat32>(0, 64);
    var word : Nat32 = 0;
    var position : Nat = 0; // bytes already in the current 64-byte block

    func compress() {
      var t = 16;
      while (t < 64) {
        let x = schedule[t - 15];
        let y = schedule[t - 2];
        let s0 = (x <>> 7) ^ (x <>> 18) ^ (x >> 3);
        let s1 = (y <>> 17) ^ (y <>> 19) ^ (y >> 10);
        schedule[t] := schedule[t - 16] +% s0 +% schedule[t - 7] +% s1;
        t += 1;
      };
      var a = state[0];
      var b = state[1];
      var c = state[2];
      var d = state[3];
      var e = state[4];
      var f = state[5];
      var g = state[6];
      var h = state[7];
      t := 0;
      while (t < 64) {
        let s1 = (e <>> 6) ^ (e <>> 11) ^ (e <>> 25);
        let choice = (e & f) ^ ((^e) & g);
        let t1 = h +% s1 +% choice +% roundConstants[t] +% schedule[t];
        let s0 = (a <>> 2) ^ (a <>> 13) ^ (a <>> 22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        h := g;
        g := f;
        f := e;
        e := d +% t1;
        d := c;
        c := b;
        b := a;
        a := t1 +% s0 +% majority;
        t += 1;
      };
      state[0] +%= a;
      state[1] +%= b;
      state[2] +%= c;
      state[3] +%= d;
      state[4] +%= e;
      state[5] +%= f;
      state[6] +%= g;
      state[7] +%= h;
    };

    func feed(byte : Nat8) {
      word := (word << 8) | Nat32.fromNat(Nat8.toNat(byte));
      position += 1;
      if (position % 4 == 0) {
        schedule[position / 4 - 1] := word;
        if (position == 64) {
          compress();
          position := 0;
        };
      };
    };

    public func absorb(part : Blob) {
      for (byte in part.vals()) feed(byte);
    };

    public func finish(lengthBytes : Nat) : Blob {
      feed(0x80);
      while (position != 56) feed(0);
      var shift : Nat64 = 64;
      let bits = Nat64.fromNat(lengthBytes * 8);
      while (shift > 0) {
        shift -= 8;
        feed(Nat8.fromNat(Nat64.toNat((bits >> shift) & 0xff)));
      };
      let digest = VarArray.repeat<Nat8>(0, 32);
      for (index in digest.keys()) {
        let shiftBits = Nat32.fromNat(24 - 8 * (index % 4));
        digest[index] := Nat8.fromNat(Nat32.toNat((state[index / 4] >> shiftBits) & 0xff));
      };
      Blob.fromVarArray(digest)
    };
  };

  public func digest(parts : [Blob]) : Blob {
    let hasher = Hasher();
    var lengthBytes = 0;
    for (part in parts.vals()) {
      hasher.absorb(part);
      lengthBytes += part.size();
    };
    hasher.finish(lengthBytes)
  };
};
