/// Prompts waiting for a block. First in, first out for one caller; callers take turns, one prompt each, and the turn
/// order survives from one block to the next. So a caller who sent 64 prompts delays another caller's first prompt by
/// at most one of them per turn.
///
/// A flood of free prompts cannot shut others out: the last places are kept for callers who have nothing waiting; when
/// these are gone too such a caller takes the place of the newest prompt in the longest lane. Against a flood by as many
/// callers as there are places only paying helps: paid prompts wait in lanes of their own.
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";
import Queue "mo:core/Queue";
import Bounds "Bounds";
import Callers "Callers";
import Limits "Limits";
import Refusal "Refusal";

module {
  public type Item = { ticket : Nat64; caller : Principal; kind : Nat64; payload : Blob };

  public type Lanes = {
    lanes : Map.Map<Principal, Queue.Queue<Item>>; // a lane is never empty
    turns : Queue.Queue<Principal>; // every lane's owner, once
    var size : Nat;
    var bytes : Nat;
  };

  public type Admission = { free : Lanes; paid : Lanes; var paidIsNext : Bool };

  public type Verdict = { #enter; #replace : Principal; #refuse : Refusal.Refusal };

  func emptyLanes() : Lanes = {
    lanes = Map.empty<Principal, Queue.Queue<Item>>();
    turns = Queue.empty<Principal>();
    var size = 0;
    var bytes = 0;
  };

  public func empty() : Admission = { free = emptyLanes(); paid = emptyLanes(); var paidIsNext = true };

  public func size(self : Admission) : Nat = self.free.size + self.paid.size;
  public func bytes(self : Admission) : Nat = self.free.bytes + self.paid.bytes;
  public func callers(self : Admission) : Nat = Map.size(self.free.lanes) + Map.size(self.paid.lanes);

  /// Whether what waits fills a block.
  public func fillsBlock(self : Admission) : Bool = size self >= Limits.blockRequestsMax or bytes self >= Limits.blockPayloadBytesMax;

  func waiting(self : Lanes, caller : Principal) : Nat = switch (Map.get(self.lanes, Principal.compare, caller)) {
    case (?lane) Queue.size(lane);
    case null 0;
  };

  func longest(self : Lanes) : ?Principal {
    var found : ?Principal = null;
    var most = 1;
    for ((owner, lane) in Map.entries(self.lanes)) {
      let length = Queue.size(lane);
      if (length > most) {
        most := length;
        found := ?owner;
      };
    };
    found
  };

  /// What becomes of one more prompt of `caller`. `#replace` names the owner of the lane that gives up its newest.
  public func judge(self : Admission, caller : Principal, paid : Bool, payloadBytes : Nat) : Verdict {
    let lanes = if paid self.paid else self.free;
    let own = waiting(lanes, caller);
    let ownMax = Callers.queuedMax(caller, paid);
    if (own >= ownMax) return #refuse(Refusal.tooMany("queue.caller_full", ownMax, own + 1));
    let isFull = lanes.size >= Limits.queuedMax;
    let isHeavy = lanes.bytes + payloadBytes > Limits.queuedBytesMax;
    if (not isFull and not isHeavy) {
      if (paid or own == 0 or lanes.size + Bounds.reserved < Limits.queuedMax) return #enter;
      return #refuse(Refusal.tooMany("queue.reserved", Limits.queuedMax - Bounds.reserved, lanes.size + 1));
    };
    if (own == 0 and not isHeavy) switch (longest lanes) {
      case (?owner) return #replace owner;
      case null {};
    };
    if isFull return #refuse(Refusal.tooMany("queue.full", Limits.queuedMax, lanes.size + 1));
    #refuse(Refusal.tooMany("queue.bytes", Limits.queuedBytesMax, lanes.bytes + payloadBytes))
  };

  func pushTo(self : Lanes, item : Item) {
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

  public func push(self : Admission, paid : Bool, item : Item) = pushTo(if paid self.paid else self.free, item);

  /// Takes the newest prompt out of a lane of at least two.
  public func evict(self : Admission, paid : Bool, owner : Principal) : ?Item {
    let lanes = if paid self.paid else self.free;
    let ?lane = Map.get(lanes.lanes, Principal.compare, owner) else return null;
    if (Queue.size(lane) < 2) return null;
    let ?item = Queue.popBack(lane) else return null;
    lanes.size -= 1;
    lanes.bytes -= item.payload.size();
    ?item
  };

  func peek(self : Lanes) : ?(Principal, Queue.Queue<Item>, Item) {
    let ?caller = Queue.peekFront(self.turns) else return null;
    let ?lane = Map.get(self.lanes, Principal.compare, caller) else return null;
    let ?item = Queue.peekFront(lane) else return null;
    ?(caller, lane, item)
  };

  func pop(self : Lanes, caller : Principal, lane : Queue.Queue<Item>, item : Item) {
    ignore Queue.popFront(self.turns);
    ignore Queue.popFront(lane);
    if (Queue.isEmpty(lane)) Map.remove(self.lanes, Principal.compare, caller) else Queue.pushBack(self.turns, caller);
    self.size -= 1;
    self.bytes -= item.payload.size();
  };

  /// The prompts of the next block, one paid and one free in turn. Stops at the first one that no longer fits: skipping
  /// it for a smaller one would let small prompts overtake a large one for ever.
  public func take(self : Admission) : [Item] {
    let taken = List.empty<Item>();
    var bytes = 0;
    label filling while (List.size(taken) < Limits.blockRequestsMax) {
      let first = if (self.paidIsNext) self.paid else self.free;
      let second = if (self.paidIsNext) self.free else self.paid;
      let (lanes, (caller, lane, item)) = switch (peek first) {
        case (?found) (first, found);
        case null switch (peek second) { case (?found) (second, found); case null break filling };
      };
      if (bytes + item.payload.size() > Limits.blockPayloadBytesMax) break filling;
      pop(lanes, caller, lane, item);
      self.paidIsNext := not self.paidIsNext;
      bytes += item.payload.size();
      List.add(taken, item);
    };
    List.toArray(taken)
  };
};
