/// Prompts waiting for a block. First in, first out for one caller; callers take turns, one prompt each, and the
/// turn order survives from one block to the next. So a caller who sent 64 prompts delays another caller's first
/// prompt by at most one of them per turn.
import List "mo:core/List";
import Map "mo:core/Map";
import Principal "mo:core/Principal";
import Queue "mo:core/Queue";
import Limits "Limits";
import Refusal "Refusal";

module {
  public type Item = { ticket : Nat64; caller : Principal; kind : Nat64; payload : Blob };

  public type FairQueue = {
    lanes : Map.Map<Principal, Queue.Queue<Item>>; // a lane is never empty
    turns : Queue.Queue<Principal>; // every lane's owner, once
    var size : Nat;
    var bytes : Nat;
  };

  public func empty() : FairQueue = {
    lanes = Map.empty<Principal, Queue.Queue<Item>>();
    turns = Queue.empty<Principal>();
    var size = 0;
    var bytes = 0;
  };

  public func callers(self : FairQueue) : Nat = Map.size(self.lanes);

  public func refuse(self : FairQueue, caller : Principal, payloadBytes : Nat) : ?Refusal.Refusal {
    if (self.size >= Limits.queuedMax) return ?Refusal.tooMany("queue.full", Limits.queuedMax, self.size + 1);
    if (self.bytes + payloadBytes > Limits.queuedBytesMax) {
      return ?Refusal.tooMany("queue.bytes", Limits.queuedBytesMax, self.bytes + payloadBytes);
    };
    let waiting = switch (Map.get(self.lanes, Principal.compare, caller)) {
      case (?lane) Queue.size(lane);
      case null 0;
    };
    if (waiting >= Limits.queuedPerCallerMax) {
      return ?Refusal.tooMany("queue.caller_full", Limits.queuedPerCallerMax, waiting + 1);
    };
    null
  };

  public func push(self : FairQueue, item : Item) {
    switch (Map.get(self.lanes, Principal.compare, item.caller)) {
      case (?lane) Queue.pushBack(lane, item);
      case null {
        let lane = Queue.empty<Item>();
        Queue.pushBack(lane, item);
        Map.add(self.lanes, Principal.compare, item.caller, lane);
        Queue.pushBack(self.turns, item.caller);
      };
    };
    self.size += 1;
    self.bytes += item.payload.size();
  };

  func peek(self : FairQueue) : ?(Principal, Queue.Queue<Item>, Item) {
    let ?caller = Queue.peekFront(self.turns) else return null;
    let ?lane = Map.get(self.lanes, Principal.compare, caller) else return null;
    let ?item = Queue.peekFront(lane) else return null;
    ?(caller, lane, item)
  };

  /// The prompts of the next block. Stops at the first one that no longer fits: skipping it for a smaller one
  /// would let small prompts overtake a large one for ever.
  public func take(self : FairQueue) : [Item] {
    let taken = List.empty<Item>();
    var bytes = 0;
    label filling while (List.size(taken) < Limits.blockRequestsMax) {
      let ?(caller, lane, item) = peek(self) else break filling;
      if (bytes + item.payload.size() > Limits.blockPayloadBytesMax) break filling;
      ignore Queue.popFront(self.turns);
      ignore Queue.popFront(lane);
      if (Queue.isEmpty(lane)) Map.remove(self.lanes, Principal.compare, caller) else Queue.pushBack(self.turns, caller);
      self.size -= 1;
      self.bytes -= item.payload.size();
      bytes += item.payload.size();
      List.add(taken, item);
    };
    List.toArray(taken)
  };
};
