/// A step of a release history as the payload of a proposal, and the digests that chain steps: governance.md V3, V5.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Nat8 "mo:core/Nat8";
import Text "mo:core/Text";
import Cbor "Cbor";
import Sha256 "Sha256";

module {
  /// As much of it as a canister looks at; what the action says is judged by whoever acts on it.
  type Payload = { format : Nat64; position : Nat64; previous : Blob };
  public type Step = { position : Nat64; previous : Blob; payload : Blob };

  func tagged(tag : Text, parts : [Blob]) : Blob {
    let text = Text.encodeUtf8(tag);
    Sha256.digest(Array.concat([Blob.fromArray([Nat8.fromNat(text.size())]), text], parts))
  };

  public func genesis(authority : Blob) : Blob = tagged("anchorhold/governance/genesis/v1", [authority]);

  public func digest(authority : Blob, payload : Blob) : Blob {
    let content = tagged("anchorhold/governance/payload/v1", [payload]);
    tagged("anchorhold/governance/decision/v1", [Cbor.encode(#array([#uint 1, #bytes authority, #bytes content]))])
  };

  /// Traps on bytes that are no Candid at all, which rejects the call that brought them.
  public func parse(payload : Blob) : ?Step {
    let ?{ format; position; previous } : ?Payload = from_candid (payload) else return null;
    if (format != 2 or position == 0 or previous.size() != 32) return null;
    ?{ position; previous; payload }
  };
};
