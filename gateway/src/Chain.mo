/// The exact bytes of docs/spec/order.md: request, request root, header, link, genesis, block.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Nat8 "mo:core/Nat8";
import Text "mo:core/Text";
import Cbor "Cbor";
import Sha256 "Sha256";

module {
  public type Header = {
    canister : Blob;
    height : Nat64;
    parent : Blob;
    beacon : Blob;
    time : Nat64;
    firstId : Nat64;
    count : Nat64;
    requestRoot : Blob;
  };

  public let version : Nat64 = 1;

  /// A domain separator: one length byte, then the ASCII text.
  func domain(tag : Text) : [Blob] {
    let text = Text.encodeUtf8(tag);
    [Blob.fromArray([Nat8.fromNat(text.size())]), text]
  };

  func tagged(tag : Text, body : Blob) : Blob = Sha256.digest(Array.concat(domain(tag), [body]));

  public func genesis(canister : Blob) : Blob = tagged("anchorhold/genesis/v1", canister);

  public func request(id : Nat64, caller : Blob, kind : Nat64, payload : Blob) : Blob = Cbor.encode(
    #array([#uint id, #bytes caller, #uint kind, #bytes payload])
  );

  /// RFC 9162 section 2.1.1 over encoded requests; a block has at least one.
  public func requestRoot(requests : [Blob]) : Blob {
    func root(from : Nat, to : Nat) : Blob {
      let size = to - from : Nat;
      if (size == 1) return Sha256.digest(["\00" : Blob, requests[from]]);
      var split = 1;
      while (split * 2 < size) split *= 2;
      Sha256.digest(["\01" : Blob, root(from, from + split), root(from + split, to)])
    };
    root(0, requests.size())
  };

  public func header(h : Header) : Blob = Cbor.encode(
    #array([
      #uint version,
      #bytes(h.canister),
      #uint(h.height),
      #bytes(h.parent),
      #bytes(h.beacon),
      #uint(h.time),
      #uint(h.firstId),
      #uint(h.count),
      #bytes(h.requestRoot),
    ])
  );

  public func link(encodedHeader : Blob) : Blob = tagged("anchorhold/link/v1", encodedHeader);

  public func block(encodedHeader : Blob, requests : [Blob]) : Blob = Cbor.encode(
    #array([#encoded encodedHeader, #array(Array.map<Blob, Cbor.Value>(requests, func(bytes) = #encoded bytes))])
  );

  /// What two reporters are compared by, and what anyone may see of an answer.
  public func answerDigest(height : Nat64, index : Nat64, answer : Blob, receipt : Blob) : Blob = tagged(
    "anchorhold/answer/v1",
    Cbor.encode(#array([#uint height, #uint index, #bytes answer, #bytes receipt])),
  );
};
