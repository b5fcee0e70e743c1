/// Sealed blocks, what was answered to them, and what disagreed.
///
/// A report is taken if its receipt is one of that place, that request and those bytes. Who signed the receipt is not
/// checked here: so the answers that reporters bring are kept beside each other, one a reporter, and all are given to
/// the owner, who checks.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import VarArray "mo:core/VarArray";
import Answers "Answers";
import Bounds "Bounds";
import Cbor "Cbor";
import Chain "Chain";
import Limits "Limits";
import Receipt "Receipt";
import Refusal "Refusal";

module {
  public type Signature = { reporter : Principal; signature : Blob };

  /// One answer and those who reported it.
  public type Answer = { answer : Blob; receipt : Blob; digest : Blob; signatures : [Signature] };

  /// The first answer first. A dissenter reported more than one, or one that differed from the first.
  public type Answered = { answers : [Answer]; dissenters : [Principal] };

  /// What became of a request.
  public type Slot = { #open; #answered : Answered; #expired };

  public type Request = { ticket : Nat64; caller : Principal; kind : Nat64; payload : Blob };

  public type Block = {
    height : Nat64;
    header : Blob;
    link : Blob;
    firstId : Nat64;
    requests : [Request];
    leaves : [Blob];
    slots : [var Slot];
    var open : Nat;
    var bytes : Nat; // of all that is kept for it
  };

  /// An answer that differed from the first. Of fixed size: the receipt is with the answer.
  public type Divergence = {
    height : Nat64;
    index : Nat64;
    reporter : Principal;
    time : Nat64;
    kept : Blob;
    other : Blob;
  };

  public type History = {
    blocks : Map.Map<Nat64, Block>;
    divergences : List.List<Divergence>;
    var divergencesSeen : Nat64;
    var oldest : Nat64; // height of the oldest block kept; head + 1 when there is none
    var open : Nat64; // no block below this height has a request that is open
    var bytes : Nat;
    var expired : Nat64; // requests, ever
    var tree : Answers.Tree;
  };

  public type Report = { height : Nat64; index : Nat64; answer : Blob; receipt : Blob; signature : Blob };

  public type Outcome = {
    #recorded : { digest : Blob };
    #repeated : { digest : Blob };
    #diverged : { kept : Blob; other : Blob };
    #refused : Refusal.Refusal;
  };

  let entryBytes : Nat = 160; // of a divergence, its principal at its longest
  let requestBytes : Nat = 96; // what stands around a payload: head, leaf, ticket

  public func empty() : History = {
    blocks = Map.empty<Nat64, Block>();
    divergences = List.empty<Divergence>();
    var divergencesSeen = 0;
    var oldest = 1;
    var open = 1;
    var bytes = 0;
    var expired = 0;
    var tree = null;
  };

  public func get(self : History, height : Nat64) : ?Block = Map.get(self.blocks, Nat64.compare, height);

  public func request(block : Block, index : Nat) : Chain.Request {
    let { caller; kind; payload } = block.requests[index];
    { id = block.firstId + Nat64.fromNat index; caller = Principal.toBlob caller; kind; payload }
  };

  public func encoded(block : Block) : Blob = Chain.block(
    block.header,
    Array.tabulate<Chain.Request>(block.requests.size(), func(index) = request(block, index)),
  );

  public func add(
    self : History,
    sealed : { height : Nat64; header : Blob; link : Blob; firstId : Nat64; requests : [Request]; leaves : [Blob] },
  ) {
    var bytes = sealed.header.size();
    for (each in sealed.requests.vals()) bytes += each.payload.size() + requestBytes;
    let count = sealed.requests.size();
    let block : Block = { sealed with slots = VarArray.repeat<Slot>(#open, count); var open = count; var bytes };
    Map.add(self.blocks, Nat64.compare, block.height, block);
    self.bytes += bytes;
  };

  /// `#open` also where nothing is kept: the caller looks up the block first where that matters.
  public func slotAt(self : History, height : Nat64, index : Nat64) : Slot {
    let ?block = get(self, height) else return #open;
    let at = Nat64.toNat index;
    if (at < block.slots.size()) block.slots[at] else #open
  };

  func weigh(self : History, block : Block, bytes : Nat) {
    block.bytes += bytes;
    self.bytes += bytes;
  };

  /// order.md O43: what the answer tree says of a request. No digests: it expired.
  func certify(self : History, block : Block, index : Nat, answers : [Answer]) {
    let record = Cbor.encode(
      #array([
        #uint(block.height),
        #uint(Nat64.fromNat index),
        #bytes(block.leaves[index]),
        #array(Array.map<Answer, Cbor.Value>(answers, func(each) = #bytes(each.digest))),
      ])
    );
    self.tree := Answers.put(self.tree, block.firstId + Nat64.fromNat index, record);
  };

  func close(self : History, block : Block) {
    block.open -= 1;
    while (isClosed(self, self.open)) self.open += 1;
  };

  func isClosed(self : History, height : Nat64) : Bool = switch (get(self, height)) {
    case (?block) block.open == 0;
    case null false;
  };

  // ---- reports

  func refuseSizes(r : Report) : ?Refusal.Refusal {
    if (r.answer.size() > Limits.answerBytesMax) {
      return ?Refusal.tooMany("answer.bytes", Limits.answerBytesMax, r.answer.size());
    };
    if (r.receipt.size() > Limits.receiptBytesMax) {
      return ?Refusal.tooMany("answer.receipt_bytes", Limits.receiptBytesMax, r.receipt.size());
    };
    if (r.signature.size() > Limits.signatureBytesMax) {
      return ?Refusal.tooMany("answer.signature_bytes", Limits.signatureBytesMax, r.signature.size());
    };
    null
  };

  public func report(self : History, gateway : Blob, reporter : Principal, time : Nat64, r : Report) : Outcome {
    switch (refuseSizes r) { case (?refusal) return #refused refusal; case null {} };
    let ?block = get(self, r.height) else return #refused {
      code = "answer.height";
      expected = "the height of a block that is kept";
      got = Nat64.toText(r.height);
    };
    let index = Nat64.toNat(r.index);
    if (index >= block.slots.size()) return #refused {
      code = "answer.index";
      expected = "below " # Nat.toText(block.slots.size());
      got = Nat64.toText(r.index);
    };
    let known : Answered = switch (block.slots[index]) {
      case (#expired) return #refused {
        code = "answer.expired";
        expected = "an answer before the request expired";
        got = "one after it";
      };
      case (#answered known) known;
      case (#open) ({ answers = []; dissenters = [] });
    };
    let digest = Chain.receiptDigest(r.receipt);
    let place = {
      gateway;
      height = r.height;
      index = r.index;
      id = block.firstId + r.index;
      request = block.leaves[index];
    };
    switch (Array.findIndex<Answer>(known.answers, func(a) = a.digest == digest)) {
      case (?at) if (known.answers[at].answer == r.answer) {
        return agree(self, block, index, known, at, reporter, time, r.signature);
      };
      case null {};
    };
    switch (Receipt.refuse(r.receipt, r.answer, place)) { case (?refusal) return #refused refusal; case null {} };
    if (known.answers.size() > 0) return dissent(self, block, index, known, reporter, time, r, digest);
    keep(self, block, index, known, reporter, r, digest);
    close(self, block);
    #recorded { digest }
  };

  func keep(self : History, block : Block, index : Nat, known : Answered, reporter : Principal, r : Report, digest : Blob) {
    let { answer; receipt; signature } = r;
    let answers = Array.concat<Answer>(known.answers, [{ answer; receipt; digest; signatures = [{ reporter; signature }] }]);
    block.slots[index] := #answered { known with answers };
    weigh(self, block, answer.size() + receipt.size() + signature.size());
    certify(self, block, index, answers);
  };

  /// One answer a reporter: whoever has reported one does not lend its signature to another.
  func hasReported(known : Answered, reporter : Principal) : Bool = Array.any<Answer>(
    known.answers,
    func(a) = Array.any<Signature>(a.signatures, func(s) = s.reporter == reporter),
  );

  func agree(
    self : History,
    block : Block,
    index : Nat,
    known : Answered,
    at : Nat,
    reporter : Principal,
    time : Nat64,
    signature : Blob,
  ) : Outcome {
    let kept = known.answers[at];
    if (kept.signatures.size() < Limits.signaturesMax and not hasReported(known, reporter)) {
      let joined = { kept with signatures = Array.concat(kept.signatures, [{ reporter; signature }]) };
      let answers = Array.tabulate<Answer>(known.answers.size(), func(i) = if (i == at) joined else known.answers[i]);
      block.slots[index] := #answered { known with answers };
      weigh(self, block, signature.size());
      if (at > 0) note(self, block, index, reporter, time, kept.digest);
    };
    if (at == 0) #repeated { digest = kept.digest } else #diverged { kept = known.answers[0].digest; other = kept.digest }
  };

  func dissent(
    self : History,
    block : Block,
    index : Nat,
    known : Answered,
    reporter : Principal,
    time : Nat64,
    r : Report,
    other : Blob,
  ) : Outcome {
    if (known.answers.size() < Bounds.alternativesMax and not hasReported(known, reporter)) {
      keep(self, block, index, known, reporter, r, other);
    };
    note(self, block, index, reporter, time, other);
    #diverged { kept = known.answers[0].digest; other }
  };

  /// A reporter is noted once for a request.
  func note(self : History, block : Block, index : Nat, reporter : Principal, time : Nat64, other : Blob) {
    let #answered known = block.slots[index] else return;
    if (Array.any<Principal>(known.dissenters, func(p) = p == reporter)) return;
    block.slots[index] := #answered { known with dissenters = Array.concat(known.dissenters, [reporter]) };
    self.divergencesSeen += 1;
    if (List.size(self.divergences) >= Bounds.divergencesMax) return;
    let { height } = block;
    let kept = known.answers[0].digest;
    List.add(self.divergences, { height; index = Nat64.fromNat index; reporter; time; kept; other });
    self.bytes += entryBytes;
  };

  /// An answer that an earlier module took, without another look.
  public func restore(
    self : History,
    height : Nat64,
    index : Nat,
    kept : { answer : Blob; receipt : Blob; signatures : [Signature]; dissenters : [Principal] },
  ) {
    let ?block = get(self, height) else return;
    let { answer; receipt; signatures; dissenters } = kept;
    let answers = [{ answer; receipt; digest = Chain.receiptDigest receipt; signatures }];
    block.slots[index] := #answered { answers; dissenters };
    var bytes = answer.size() + receipt.size();
    for (each in signatures.vals()) bytes += each.signature.size();
    weigh(self, block, bytes);
    certify(self, block, index, answers);
    close(self, block);
  };

  // ---- expiry and forgetting

  /// Ids that expire in the block sealed at `height`, as ranges that one header has room for: what is open and as many
  /// blocks old as set, or in the way when there is too much history. They expire with this call (order.md O37).
  public func expire(self : History, height : Nat64, afterBlocks : Nat64, bytesMax : Nat) : ([Chain.Range], [Request]) {
    let ranges = List.empty<Chain.Range>();
    let requests = List.empty<Request>();
    var freed = 0; // bytes of the blocks passed, which could go
    var at = Nat64.max(self.oldest, self.open);
    label blocks while (at < height) {
      let ?block = get(self, at) else break blocks;
      let isOld = at + afterBlocks <= height;
      let isInTheWay = self.bytes > bytesMax and freed < (self.bytes - bytesMax : Nat);
      if (not isOld and not isInTheWay) break blocks;
      freed += block.bytes;
      if (block.open > 0 and not expireBlock(self, block, ranges, requests)) break blocks;
      at += 1;
    };
    (List.toArray ranges, List.toArray requests)
  };

  /// False when the header has no room for all of it.
  func expireBlock(self : History, block : Block, ranges : List.List<Chain.Range>, requests : List.List<Request>) : Bool {
    for (index in block.slots.keys()) {
      switch (block.slots[index]) {
        case (#open) {
          let id = block.firstId + Nat64.fromNat index;
          let extends = switch (List.last(ranges)) { case (?r) r.first + r.count == id and r.count < Bounds.expiredIdsMax; case null false };
          if extends {
            let ?last = List.removeLast(ranges) else return false;
            List.add(ranges, { last with count = last.count + 1 });
          } else {
            if (List.size(ranges) == Bounds.expiredRangesMax) return false;
            List.add(ranges, { first = id; count = 1 : Nat64 });
          };
          List.add(requests, block.requests[index]);
          block.slots[index] := #expired;
          self.expired += 1;
          certify(self, block, index, []);
          close(self, block);
        };
        case _ {};
      };
    };
    true
  };

  /// Forgets the oldest blocks while there is too much history and nothing in them is open; gives their requests. The
  /// newest block always stays: it is what the certified link speaks of.
  public func prune(self : History, head : Nat64, bytesMax : Nat) : [Request] {
    let forgotten = List.empty<Request>();
    label pruning while (self.bytes > bytesMax and self.oldest < head) {
      let ?block = get(self, self.oldest) else break pruning;
      if (block.open > 0) break pruning;
      for (index in block.requests.keys()) {
        List.add(forgotten, block.requests[index]);
        self.tree := Answers.remove(self.tree, block.firstId + Nat64.fromNat index);
      };
      self.bytes -= block.bytes;
      Map.remove(self.blocks, Nat64.compare, self.oldest);
      self.oldest += 1;
    };
    List.toArray forgotten
  };
};
