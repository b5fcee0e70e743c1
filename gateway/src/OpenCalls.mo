/// Calls that wait for their answer inside the gateway. Each costs a message a round while it waits, and none can be open
/// over an upgrade: so they are bounded, in all and for each caller, and their patience is short.
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Bounds "Bounds";
import Callers "Callers";
import Refusal "Refusal";

module {
  public type OpenCalls = { byCaller : Map.Map<Principal, Nat>; var count : Nat };

  public func none() : OpenCalls = { byCaller = Map.empty<Principal, Nat>(); var count = 0 };

  func of(self : OpenCalls, caller : Principal) : Nat = switch (Map.get(self.byCaller, Principal.compare, caller)) {
    case (?count) count;
    case null 0;
  };

  public func refuse(self : OpenCalls, caller : Principal) : ?Refusal.Refusal {
    let own = of(self, caller);
    let ownMax = Callers.openMax(caller, false);
    if (own >= ownMax) return ?Refusal.tooMany("chat.caller_open", ownMax, own + 1);
    if (self.count >= Bounds.openFreeMax) return ?Refusal.tooMany("chat.open", Bounds.openFreeMax, self.count + 1);
    null
  };

  public func begin(self : OpenCalls, caller : Principal) {
    Map.add(self.byCaller, Principal.compare, caller, of(self, caller) + 1);
    self.count += 1;
  };

  public func end(self : OpenCalls, caller : Principal) {
    let own = of(self, caller);
    if (own > 1) Map.add(self.byCaller, Principal.compare, caller, own - 1 : Nat) else Map.remove(self.byCaller, Principal.compare, caller);
    if (self.count > 0) self.count -= 1;
  };

  public let draining : Refusal.Refusal = {
    code = "gateway.draining";
    expected = "a gateway that is not about to be upgraded";
    got = "one that is: use submit_chat, or call again in a minute";
  };

  /// The prompt is still on its way: the answer comes through `take_answer` with this ticket.
  public func pending(ticket : Nat64) : Refusal.Refusal = {
    code = "chat.pending";
    expected = "an answer in time";
    got = "ticket " # Nat64.toText ticket;
  };
};
