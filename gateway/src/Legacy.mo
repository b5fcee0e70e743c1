/// The state of the first module, so that an upgrade from it keeps everything. The names of its variables stand in Main
/// with these types; at the first start of this module they are moved over and left empty.
///
/// Its answers go over as they are: they were taken before receipts were looked at. Its blocks are read and hashed again,
/// at some 300 instructions a byte: well inside what an upgrade may use up to the full gigabyte.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Queue "mo:core/Queue";
import Runtime "mo:core/Runtime";
import Admission "Admission";
import Chain "Chain";
import CborRead "CborRead";
import History "History";
import Interface "Interface";
import Sealing "Sealing";
import Tickets "Tickets";

module {
  public type Item = { ticket : Nat64; caller : Principal; kind : Nat64; payload : Blob };
  public type FairQueue = {
    lanes : Map.Map<Principal, Queue.Queue<Item>>;
    turns : Queue.Queue<Principal>;
    var size : Nat;
    var bytes : Nat;
  };
  public type Signature = { reporter : Principal; signature : Blob };
  public type Answer = {
    answer : Blob;
    receipt : Blob;
    digest : Blob;
    var signatures : [Signature];
    var dissenters : [Principal];
  };
  public type Block = {
    height : Nat64;
    header : Blob;
    link : Blob;
    bytes : Blob;
    firstId : Nat64;
    tickets : [Nat64];
    answers : [var ?Answer];
    var answered : Nat;
  };
  public type Divergence = {
    height : Nat64;
    index : Nat64;
    reporter : Principal;
    time : Nat64;
    kept : Blob;
    other : Blob;
    receipt : Blob;
    signature : Blob;
  };
  public type Ledger = {
    blocks : Map.Map<Nat64, Block>;
    divergences : List.List<Divergence>;
    var divergencesSeen : Nat64;
    var oldest : Nat64;
    var bytes : Nat;
  };
  public type Position = { height : Nat64; index : Nat64; id : Nat64 };
  public type Ticket = { caller : Principal; var position : ?Position };
  public type Draft = {
    height : Nat64;
    firstId : Nat64;
    tickets : [Nat64];
    requests : [Blob];
    requestRoot : Blob;
  };

  public func emptyQueue() : FairQueue = {
    lanes = Map.empty<Principal, Queue.Queue<Item>>();
    turns = Queue.empty<Principal>();
    var size = 0;
    var bytes = 0;
  };

  public func emptyLedger() : Ledger = {
    blocks = Map.empty<Nat64, Block>();
    divergences = List.empty<Divergence>();
    var divergencesSeen = 0;
    var oldest = 1;
    var bytes = 0;
  };

  public func emptyTickets() : Map.Map<Nat64, Ticket> = Map.empty<Nat64, Ticket>();

  /// Callers keep their turns, and each its order.
  public func moveQueue(from : FairQueue, to : Admission.Admission) {
    for (owner in Queue.values(from.turns)) {
      let ?lane = Map.get(from.lanes, Principal.compare, owner) else Runtime.trap("a turn without a lane");
      for (item in Queue.values(lane)) Admission.push(to, false, item);
    };
    Map.clear(from.lanes);
    Queue.clear(from.turns);
    from.size := 0;
    from.bytes := 0;
  };

  public func moveTickets(from : Map.Map<Nat64, Ticket>, next : Nat64, to : Tickets.Tickets) {
    for ((number, ticket) in Map.entries(from)) {
      let { caller } = ticket;
      let standing : Tickets.Standing = switch (ticket.position) { case (?at) #ordered at; case null #waiting };
      Map.add(to.book, Nat64.compare, number, { caller; callback = null : ?Interface.Callback; var standing });
    };
    Map.clear(from);
    to.next := Nat64.max(to.next, next);
  };

  func readRequest(value : CborRead.Value, ticket : Nat64) : History.Request {
    let #array members = value else Runtime.trap("a kept request that is none");
    let (#bytes caller, #uint kind, #bytes payload) = (members[1], members[2], members[3]) else {
      Runtime.trap("a kept request that is none")
    };
    { ticket; caller = Principal.fromBlob caller; kind; payload }
  };

  func readBlock(bytes : Blob, tickets : [Nat64]) : [History.Request] {
    let ?(#array parts) = CborRead.decode(bytes) else Runtime.trap("a kept block that is none");
    let #array requests = parts[1] else Runtime.trap("a kept block that is none");
    Array.tabulate<History.Request>(tickets.size(), func(i) = readRequest(requests[i], tickets[i]))
  };

  func leavesOf(requests : [History.Request], firstId : Nat64) : [Blob] = Array.tabulate<Blob>(
    requests.size(),
    func(i) {
      let { caller; kind; payload } = requests[i];
      Chain.leaf({ id = firstId + Nat64.fromNat i; caller = Principal.toBlob caller; kind; payload })
    },
  );

  public func moveLedger(from : Ledger, to : History.History) {
    if (from.oldest == 1 and Map.isEmpty(from.blocks)) return;
    to.oldest := from.oldest;
    to.open := from.oldest;
    for ((_, block) in Map.entries(from.blocks)) {
      let { height; header; link; firstId } = block;
      let requests = readBlock(block.bytes, block.tickets);
      History.add(to, { height; header; link; firstId; requests; leaves = leavesOf(requests, firstId) });
      for (index in block.answers.keys()) {
        switch (block.answers[index]) {
          case (?kept) {
            let { answer; receipt } = kept;
            History.restore(to, height, index, { answer; receipt; signatures = kept.signatures; dissenters = kept.dissenters });
          };
          case null {};
        };
      };
    };
    for ({ height; index; reporter; time; kept; other } in List.values(from.divergences)) {
      List.add(to.divergences, { height; index; reporter; time; kept; other });
    };
    to.divergencesSeen := from.divergencesSeen;
    Map.clear(from.blocks);
    List.clear(from.divergences);
    from.oldest := 1;
    from.bytes := 0;
  };

  public func moveDraft(from : ?Draft, to : Sealing.Sealing) {
    let ?{ height; firstId; tickets; requests; requestRoot } = from else return;
    let read = Array.tabulate<History.Request>(
      tickets.size(),
      func(i) {
        let ?value = CborRead.decode(requests[i]) else Runtime.trap("a fixed request that is none");
        readRequest(value, tickets[i])
      },
    );
    to.draft := ?{ height; firstId; requests = read; leaves = leavesOf(read, firstId); requestRoot };
  };
};
