/// Calls back to canisters that asked to be told. One-way and of bounded wait: whether the callee takes it, answers it or
/// is there at all is nothing the gateway waits for.
import Blob "mo:core/Blob";
import Nat8 "mo:core/Nat8";
import Principal "mo:core/Principal";
import Queue "mo:core/Queue";
import Bounds "Bounds";
import Callers "Callers";
import CborRead "CborRead";
import Interface "Interface";
import Refusal "Refusal";

module {
  /// The canister that a function reference names. The language does not tell; its Candid does: at the end of the encoding
  /// stand the length and bytes of the canister's id, then the length and bytes of the method's name.
  func canisterOf(callback : Interface.Callback) : ?Blob {
    let encoded = to_candid (callback);
    let size = encoded.size();
    var nameSize = 1;
    // A canister's id has ten bytes; a name under 128 has a length of one byte.
    while (nameSize < 128 and nameSize + 12 < size) {
      let at : Nat = size - nameSize - 1;
      let isThere = Nat8.toNat(encoded[at]) == nameSize and encoded[at - 11] == 10 and encoded[at - 12] == 1 and encoded[at - 13] == 1;
      if isThere return ?CborRead.slice(encoded, at - 10, 10);
      nameSize += 1;
    };
    null
  };

  /// A gateway that called whatever it is told to would lend its name to its callers: a callback is the caller's own.
  public func refuse(callback : Interface.Callback, caller : Principal) : ?Refusal.Refusal {
    let own = Callers.isCanister caller and canisterOf callback == ?Principal.toBlob caller;
    if own null else ?{
      code = "callback.foreign";
      expected = "a method of the canister that calls";
      got = "another";
    }
  };

  public type Outbox = Queue.Queue<(Interface.Callback, Interface.Notification)>;

  /// Sends what is to be told, up to a bound; the rest goes with a later message. In an `async*` function of its own
  /// because only such may send.
  public func send(outbox : Outbox) : async* () {
    var sent = 0;
    while (sent < Bounds.callbacksMax) {
      let ?(callback, notification) = Queue.popFront outbox else return;
      (with timeout = Bounds.callbackSeconds) callback(notification);
      sent += 1;
    };
  };
};
