/// What a receipt says (docs/spec/receipt.md T1), as far as the gateway holds it against what it ordered. Who signed it
/// is not looked at: that is the client's to check, with the cell's evidence.
import Blob "mo:core/Blob";
import Nat64 "mo:core/Nat64";
import CborRead "CborRead";
import Chain "Chain";
import Refusal "Refusal";

module {
  public type Finish = { #word : Nat64; #code : Text };

  public type Receipt = {
    gateway : Blob;
    height : Nat64;
    index : Nat64;
    id : Nat64;
    request : Blob;
    answer : Blob;
    finish : Finish;
  };

  /// One request as it was ordered.
  public type Place = { gateway : Blob; height : Nat64; index : Nat64; id : Nat64; request : Blob };

  public func read(body : Blob) : ?Receipt {
    let ?(#array members) = CborRead.decode(body) else return null;
    if (members.size() < 11) return null;
    let #array place = members[5] else return null;
    let #array asked = members[6] else return null;
    let #array outcome = members[8] else return null;
    if (place.size() != 4 or asked.size() != 2 or outcome.size() != 3) return null;
    let (#bytes gateway, #uint height, #uint index, #uint id) = (place[0], place[1], place[2], place[3]) else return null;
    let (#bytes request, #bytes answer) = (asked[1], outcome[0]) else return null;
    let finish : Finish = switch (outcome[2]) {
      case (#uint word) #word word;
      case (#text code) #code code;
      case _ return null;
    };
    ?{ gateway; height; index; id; request; answer; finish }
  };

  func other(code : Text, expected : Text) : ?Refusal.Refusal = ?{ code; expected; got = "another" };

  /// order.md O40: a receipt of this place, this request and these bytes.
  public func refuse(body : Blob, answer : Blob, at : Place) : ?Refusal.Refusal {
    let ?receipt = read(body) else return ?{
      code = "receipt.form";
      expected = "the body of a receipt";
      got = "other bytes";
    };
    if (receipt.gateway != at.gateway) return other("receipt.gateway", "this gateway");
    if (receipt.height != at.height or receipt.index != at.index or receipt.id != at.id) {
      return other("receipt.place", "height " # Nat64.toText(at.height) # ", index " # Nat64.toText(at.index));
    };
    if (receipt.request != at.request) return other("receipt.request", "the request that was ordered there");
    if (receipt.answer != Chain.saidDigest(answer)) return other("receipt.answer", "the bytes that came with it");
    null
  };
};
