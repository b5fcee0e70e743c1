/// Reads CBOR that a cell wrote: receipts and the messages of answers. What it returns is a claim until it is compared
/// with something. Bounded by the bytes it is given: every item takes at least one.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import List "mo:core/List";
import Nat8 "mo:core/Nat8";
import Nat64 "mo:core/Nat64";
import Text "mo:core/Text";

module {
  public type Value = {
    #uint : Nat64;
    #bytes : Blob;
    #text : Text;
    #array : [Value];
    #map : [(Text, Value)];
    #null_;
  };

  let depthMax : Nat = 6;

  public func slice(bytes : Blob, from : Nat, size : Nat) : Blob = Blob.fromArray(
    Array.tabulate<Nat8>(size, func(i) = bytes[from + i])
  );

  class Reader(bytes : Blob) {
    var at : Nat = 0;

    public func isAtEnd() : Bool = at == bytes.size();

    func taken(size : Nat) : ?Blob {
      if (at + size > bytes.size()) return null;
      at += size;
      ?slice(bytes, at - size, size)
    };

    func number(width : Nat) : ?Nat64 {
      if (at + width > bytes.size()) return null;
      var value : Nat64 = 0;
      let end = at + width;
      while (at < end) {
        value := (value << 8) | Nat64.fromNat(Nat8.toNat(bytes[at]));
        at += 1;
      };
      ?value
    };

    func argument(info : Nat64) : ?Nat64 = if (info < 24) ?info else if (info == 24) number(1) else if (info == 25) number(
      2
    ) else if (info == 26) number(4) else if (info == 27) number(8) else null;

    func items(count : Nat, depth : Nat) : ?[Value] {
      if (count > bytes.size()) return null;
      let found = List.empty<Value>();
      while (List.size(found) < count) {
        let ?item = value(depth + 1) else return null;
        List.add(found, item);
      };
      ?List.toArray(found)
    };

    func entries(count : Nat, depth : Nat) : ?[(Text, Value)] {
      if (count > bytes.size()) return null;
      let found = List.empty<(Text, Value)>();
      while (List.size(found) < count) {
        let ?(#text key) = value(depth + 1) else return null;
        let ?item = value(depth + 1) else return null;
        List.add(found, (key, item));
      };
      ?List.toArray(found)
    };

    public func value(depth : Nat) : ?Value {
      if (depth > depthMax) return null;
      let ?head = number(1) else return null;
      let info = head & 31;
      if (head == 0xf6) return ?#null_;
      let ?n = argument(info) else return null;
      let size = Nat64.toNat(n);
      switch (head >> 5) {
        case 0 ?#uint n;
        case 2 { let ?found = taken(size) else return null; ?#bytes found };
        case 3 {
          let ?utf8 = taken(size) else return null;
          let ?text = Text.decodeUtf8(utf8) else return null;
          ?#text text
        };
        case 4 { let ?found = items(size, depth) else return null; ?#array found };
        case 5 { let ?found = entries(size, depth) else return null; ?#map found };
        case _ null;
      }
    };
  };

  /// The one value that `bytes` are, if they are one of the kinds above.
  public func decode(bytes : Blob) : ?Value {
    let reader = Reader(bytes);
    let found = reader.value(0);
    if (reader.isAtEnd()) found else null
  };

  public func field(fields : [(Text, Value)], key : Text) : ?Value {
    for ((name, value) in fields.vals()) if (name == key) return ?value;
    null
  };
};
