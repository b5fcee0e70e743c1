/// The exact bytes of docs/spec/order.md: request, leaf, request root, header, link, genesis, block.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import List "mo:core/List";
import Nat64 "mo:core/Nat64";
import Nat8 "mo:core/Nat8";
import Text "mo:core/Text";
import Cbor "Cbor";
import Sha256 "Sha256";

module {
  public type Request = { id : Nat64; caller : Blob; kind : Nat64; payload : Blob };

  /// Consecutive ids, from `first` on.
  public type Range = { first : Nat64; count : Nat64 };

  public type Header = {
    canister : Blob;
    height : Nat64;
    parent : Blob;
    beacon : Blob;
    time : Nat64;
    firstId : Nat64;
    count : Nat64;
    requestRoot : Blob;
    expired : [Range];
  };

  // Domain separators: one length byte, then the ASCII text.
  let genesisDomain : Blob = "\15anchorhold/genesis/v1";
  let linkDomain : Blob = "\12anchorhold/link/v1";
  let saidDomain : Blob = "\14anchorhold/answer/v1";
  let receiptDomain : Blob = "\1aanchorhold/receipt/body/v1";

  public func genesis(canister : Blob) : Blob = Sha256.digest([genesisDomain, canister]);

  /// A request without the bytes of its payload, which stand last.
  func requestHead(r : Request) : Blob {
    let parts = List.fromArray<Blob>([
      "\84" : Blob,
      Cbor.encode(#uint(r.id)),
      Cbor.encode(#bytes(r.caller)),
      Cbor.encode(#uint(r.kind)),
      Cbor.bytesHead(r.payload.size()),
    ]);
    Cbor.concat(parts)
  };

  public func request(r : Request) : Blob = Cbor.concat(List.fromArray<Blob>([requestHead r, r.payload]));

  /// A request's leaf in its block's tree, which is its digest everywhere else. The payload is hashed where it lies.
  public func leaf(r : Request) : Blob = Sha256.digest(["\00" : Blob, requestHead r, r.payload]);

  /// RFC 9162 section 2.1.1 over the leaves; a block has at least one.
  public func requestRoot(leaves : [Blob]) : Blob {
    func root(from : Nat, to : Nat) : Blob {
      let size = to - from : Nat;
      if (size == 1) return leaves[from];
      var split = 1;
      while (split * 2 < size) split *= 2;
      Sha256.digest(["\01" : Blob, root(from, from + split), root(from + split, to)])
    };
    root(0, leaves.size())
  };

  func range(r : Range) : Cbor.Value = #array([#uint(r.first), #uint(r.count)]);

  /// Version 1, or version 2 where something expires (O3, O36).
  public func header(h : Header) : Blob {
    let members : [Cbor.Value] = [
      #uint(if (h.expired.size() == 0) 1 else 2),
      #bytes(h.canister),
      #uint(h.height),
      #bytes(h.parent),
      #bytes(h.beacon),
      #uint(h.time),
      #uint(h.firstId),
      #uint(h.count),
      #bytes(h.requestRoot),
    ];
    if (h.expired.size() == 0) return Cbor.encode(#array members);
    Cbor.encode(#array(Array.concat<Cbor.Value>(members, [#array(Array.map<Range, Cbor.Value>(h.expired, range))])))
  };

  public func link(encodedHeader : Blob) : Blob = Sha256.digest([linkDomain, encodedHeader]);

  public func block(encodedHeader : Blob, requests : [Request]) : Blob = Cbor.encode(
    #array([
      #encoded encodedHeader,
      #array(Array.map<Request, Cbor.Value>(requests, func(r) = #encoded(request r))),
    ])
  );

  /// receipt.md T12: the digest of the bytes said.
  public func saidDigest(answer : Blob) : Blob = Sha256.digest([saidDomain, answer]);

  /// receipt.md T7: the digest of a receipt's body. It names place, request and answer; reporters are compared by it.
  public func receiptDigest(body : Blob) : Blob = Sha256.digest([receiptDomain, body]);
};
