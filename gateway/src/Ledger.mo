/// Sealed blocks, the answers to them, and what disagreed. The first answer for a position stays; a different one
/// is recorded and never replaces it. The gateway checks no receipt: a client does, with the cell's evidence.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import VarArray "mo:core/VarArray";
import Chain "Chain";
import Limits "Limits";
import Refusal "Refusal";

module {
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
    var oldest : Nat64; // height of the oldest block kept; head + 1 when there is none
    var bytes : Nat;
  };

  public type Report = { height : Nat64; index : Nat64; answer : Blob; receipt : Blob; signature : Blob };

  public type Outcome = {
    #recorded : { digest : Blob };
    #repeated : { digest : Blob };
    #diverged : { kept : Blob; other : Blob };
    #refused : Refusal.Refusal;
  };

  public func empty() : Ledger = {
    blocks = Map.empty<Nat64, Block>();
    divergences = List.empty<Divergence>();
    var divergencesSeen = 0;
    var oldest = 1;
    var bytes = 0;
  };

  public func get(self : Ledger, height : Nat64) : ?Block = Map.get(self.blocks, Nat64.compare, height);

  public func add(
    self : Ledger,
    sealed : { height : Nat64; header : Blob; link : Blob; bytes : Blob; firstId : Nat64; tickets : [Nat64] },
  ) {
    let block : Block = {
      sealed with
      answers = VarArray.repeat<?Answer>(null, sealed.tickets.size());
      var answered = 0;
    };
    Map.add(self.blocks, Nat64.compare, block.height, block);
    self.bytes += block.header.size() + block.bytes.size();
  };

  public func answerAt(self : Ledger, height : Nat64, index : Nat64) : ?Answer {
    let ?block = get(self, height) else return null;
    let at = Nat64.toNat(index);
    if (at < block.answers.size()) block.answers[at] else null
  };

  func refuse(self : Ledger, r : Report) : ?Refusal.Refusal {
    if (r.answer.size() > Limits.answerBytesMax) {
      return ?Refusal.tooMany("answer.bytes", Limits.answerBytesMax, r.answer.size());
    };
    if (r.receipt.size() > Limits.receiptBytesMax) {
      return ?Refusal.tooMany("answer.receipt_bytes", Limits.receiptBytesMax, r.receipt.size());
    };
    if (r.signature.size() > Limits.signatureBytesMax) {
      return ?Refusal.tooMany("answer.signature_bytes", Limits.signatureBytesMax, r.signature.size());
    };
    let ?block = get(self, r.height) else return ?{
      code = "answer.height";
      expected = "the height of a block that is kept";
      got = Nat64.toText(r.height);
    };
    if (Nat64.toNat(r.index) >= block.answers.size()) return ?{
      code = "answer.index";
      expected = "below " # Nat64.toText(Nat64.fromNat(block.answers.size()));
      got = Nat64.toText(r.index);
    };
    null
  };

  func agree(self : Ledger, kept : Answer, reporter : Principal, signature : Blob) {
    if (kept.signatures.size() >= Limits.signaturesMax) return;
    if (Array.any<Signature>(kept.signatures, func(s) = s.reporter == reporter)) return;
    kept.signatures := Array.concat(kept.signatures, [{ reporter; signature }]);
    self.bytes += signature.size();
  };

  func dissent(self : Ledger, kept : Answer, reporter : Principal, time : Nat64, r : Report, other : Blob) {
    if (Array.any<Principal>(kept.dissenters, func(p) = p == reporter)) return;
    kept.dissenters := Array.concat(kept.dissenters, [reporter]);
    self.divergencesSeen += 1;
    if (List.size(self.divergences) >= Limits.divergencesMax) return;
    let { height; index; receipt; signature } = r;
    List.add(self.divergences, { height; index; reporter; time; kept = kept.digest; other; receipt; signature });
  };

  public func report(self : Ledger, reporter : Principal, time : Nat64, r : Report) : Outcome {
    switch (refuse(self, r)) { case (?refusal) return #refused refusal; case null {} };
    let digest = Chain.answerDigest(r.height, r.index, r.answer, r.receipt);
    switch (answerAt(self, r.height, r.index)) {
      case (?kept) {
        if (kept.digest == digest) {
          agree(self, kept, reporter, r.signature);
          #repeated { digest }
        } else {
          dissent(self, kept, reporter, time, r, digest);
          #diverged { kept = kept.digest; other = digest }
        }
      };
      case null {
        let ?block = get(self, r.height) else return #refused(Refusal.tooMany("answer.height", 0, 0));
        block.answers[Nat64.toNat(r.index)] := ?{
          answer = r.answer;
          receipt = r.receipt;
          digest;
          var signatures = [{ reporter; signature = r.signature }];
          var dissenters = [];
        };
        block.answered += 1;
        self.bytes += r.answer.size() + r.receipt.size() + r.signature.size();
        #recorded { digest }
      };
    }
  };

  func size(block : Block) : Nat {
    var bytes = block.header.size() + block.bytes.size();
    for (slot in block.answers.vals()) {
      switch slot {
        case (?a) {
          bytes += a.answer.size() + a.receipt.size();
          for (s in a.signatures.vals()) bytes += s.signature.size();
        };
        case null {};
      };
    };
    bytes
  };

  /// Whether history can't be made shorter before an answer comes.
  public func isStuck(self : Ledger) : Bool {
    let ?block = get(self, self.oldest) else return false;
    block.answered < block.answers.size()
  };

  /// Forgets the oldest blocks while there is too much history and they are fully answered; gives their tickets.
  /// The newest block always stays: it is what `certified_data` speaks of.
  public func prune(self : Ledger, head : Nat64, bytesMax : Nat) : [Nat64] {
    let forgotten = List.empty<Nat64>();
    label pruning while (self.bytes > bytesMax and self.oldest < head) {
      let ?block = get(self, self.oldest) else break pruning;
      if (block.answered < block.answers.size()) break pruning;
      for (ticket in block.tickets.vals()) List.add(forgotten, ticket);
      self.bytes -= size(block);
      Map.remove(self.blocks, Nat64.compare, self.oldest);
      self.oldest += 1;
    };
    List.toArray(forgotten)
  };
};
