/// Deterministic CBOR (RFC 8949 section 4.2.1), encoding only: shortest integers, definite lengths, map keys
/// sorted bytewise by their encoding. No floats: nothing the gateway hashes has one.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Int64 "mo:core/Int64";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat8 "mo:core/Nat8";
import Nat64 "mo:core/Nat64";
import Text "mo:core/Text";
import VarArray "mo:core/VarArray";

module {
  public type Value = {
    #uint : Nat64;
    #int : Int64;
    #bytes : Blob;
    #text : Text;
    #array : [Value];
    #map : [(Text, Value)];
    #encoded : Blob; // bytes that are already one encoded value
  };

  public func concat(parts : List.List<Blob>) : Blob {
    var size = 0;
    for (part in List.values(parts)) size += part.size();
    let joined = VarArray.repeat<Nat8>(0, size);
    var at : Nat64 = 0; // as in Sha256: arithmetic on Nat looks for numbers beyond a word
    for (part in List.values(parts)) {
      let end = Nat64.fromNat(part.size());
      var from : Nat64 = 0;
      while (from < end) {
        joined[Nat64.toNat at] := part[Nat64.toNat from];
        from +%= 1;
        at +%= 1;
      };
    };
    Blob.fromVarArray(joined)
  };

  /// The head of a byte string of so many bytes: what stands before them.
  public func bytesHead(size : Nat) : Blob = head(2, Nat64.fromNat size);

  func head(major : Nat8, argument : Nat64) : Blob {
    let top = major << 5;
    if (argument < 24) return Blob.fromArray([top | Nat8.fromNat(Nat64.toNat(argument))]);
    let (info, width) : (Nat8, Nat) = if (argument <= 0xff) (24, 1) else if (argument <= 0xffff) (25, 2) else if (
      argument <= 0xffff_ffff
    ) (26, 4) else (27, 8);
    Blob.fromArray(
      Array.tabulate<Nat8>(
        width + 1,
        func(i) = if (i == 0) top | info else Nat8.fromNat(
          Nat64.toNat((argument >> Nat64.fromNat(8 * (width - i : Nat))) & 0xff)
        ),
      )
    )
  };

  func write(out : List.List<Blob>, value : Value) {
    switch value {
      case (#uint n) List.add(out, head(0, n));
      case (#int n) List.add(
        out,
        if (n >= 0) head(0, Int64.toNat64 n) else head(1, Int64.toNat64(-1 - n)),
      );
      case (#bytes bytes) {
        List.add(out, head(2, Nat64.fromNat(bytes.size())));
        List.add(out, bytes);
      };
      case (#text text) {
        let utf8 = Text.encodeUtf8(text);
        List.add(out, head(3, Nat64.fromNat(utf8.size())));
        List.add(out, utf8);
      };
      case (#array items) {
        List.add(out, head(4, Nat64.fromNat(items.size())));
        for (item in items.vals()) write(out, item);
      };
      case (#map entries) {
        let keyed = Array.map<(Text, Value), (Blob, Value)>(entries, func((key, item)) = (encode(#text key), item));
        let sorted = Array.sort<(Blob, Value)>(keyed, func(a, b) = Blob.compare(a.0, b.0));
        List.add(out, head(5, Nat64.fromNat(sorted.size())));
        for ((key, item) in sorted.vals()) {
          List.add(out, key);
          write(out, item);
        };
      };
      case (#encoded bytes) List.add(out, bytes);
    };
  };

  public func encode(value : Value) : Blob {
    let out = List.empty<Blob>();
    write(out, value);
    concat(out)
  };
};
