/// Tickets: whose a prompt is, and where it stands until it is ordered. After that the history knows.
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Admission "Admission";
import Interface "Interface";
import Refusal "Refusal";

module {
  /// `#pushedOut`: another caller's prompt took its place in a full queue.
  public type Standing = { #waiting; #ordered : Interface.Position; #pushedOut };

  public type Ticket = { caller : Principal; callback : ?Interface.Callback; var standing : Standing };

  public type Tickets = { book : Map.Map<Nat64, Ticket>; var next : Nat64 };

  public func empty() : Tickets = { book = Map.empty<Nat64, Ticket>(); var next = 0 };

  public func get(self : Tickets, number : Nat64) : ?Ticket = Map.get(self.book, Nat64.compare, number);

  public func open(self : Tickets, caller : Principal, callback : ?Interface.Callback) : Nat64 {
    let number = self.next;
    self.next += 1;
    Map.add(self.book, Nat64.compare, number, { caller; callback; var standing = #waiting : Standing });
    number
  };

  public func order(self : Tickets, number : Nat64, position : Interface.Position) {
    switch (get(self, number)) { case (?ticket) ticket.standing := #ordered position; case null {} };
  };

  public func pushOut(self : Tickets, item : Admission.Item) {
    switch (get(self, item.ticket)) { case (?ticket) ticket.standing := #pushedOut; case null {} };
  };

  public func forget(self : Tickets, number : Nat64) = Map.remove(self.book, Nat64.compare, number);

  public let pushedOut : Refusal.Refusal = {
    code = "queue.pushed_out";
    expected = "a place in the queue";
    got = "a full one: a caller with nothing waiting took it";
  };

  public let expired : Refusal.Refusal = {
    code = "order.expired";
    expected = "an answer before the request expired";
    got = "none";
  };
};
