/// What is shown of the gateway's state, put together for those who read it.
import Array "mo:core/Array";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Bounds "Bounds";
import Chain "Chain";
import History "History";
import Interface "Interface";
import Limits "Limits";
import Refusal "Refusal";
import Spoken "Spoken";

module {
  public type Outcome = { #answered : Interface.Reply; #refused : Refusal.Refusal };

  /// A ticket's answer as the LLM canister's message, or the refusal that its receipt is of.
  public func reply(ticket : Nat64, position : Interface.Position, first : History.Answer) : Outcome {
    let { answer; receipt; digest; signatures } = first;
    switch (Spoken.of(answer, receipt)) {
      case (#message message) #answered { message; ticket; position; receipt; digest; signatures };
      case (#refused refusal) #refused refusal;
    }
  };

  public func answered(position : Interface.Position, found : History.Answered, proof : Interface.Proof) : Interface.Answered {
    let { answers; dissenters } = found;
    let others = Array.tabulate<History.Answer>(answers.size() - 1, func(i) = answers[i + 1]);
    { answers[0] with position; dissenters; others; certificate = proof.certificate; tree = proof.tree }
  };

  public func entries(block : History.Block, caller : Principal, all : Bool) : Interface.Entries = {
    header = block.header;
    entries = Array.tabulate<Interface.Entry>(
      block.requests.size(),
      func(index) = if (all or block.requests[index].caller == caller) {
        #request(Chain.request(History.request(block, index)))
      } else #leaf(block.leaves[index]),
    );
  };

  func evidence(history : History.History, d : History.Divergence) : ?{ receipt : Blob; signature : Blob } {
    let #answered { answers } = History.slotAt(history, d.height, d.index) else return null;
    for ({ receipt; digest; signatures } in answers.vals()) {
      if (digest == d.other) for ({ reporter; signature } in signatures.vals()) {
        if (reporter == d.reporter) return ?{ receipt; signature };
      };
    };
    null
  };

  public func divergences(history : History.History, from : Nat64, max : Nat64, withEvidence : Bool) : [Interface.Disagreement] {
    let page = List.empty<Interface.Disagreement>();
    let countMax = Nat.min(Nat64.toNat max, Limits.divergencesPageMax);
    var at = Nat64.toNat from;
    label reading while (List.size page < countMax) {
      let ?d = List.get(history.divergences, at) else break reading;
      List.add(page, { d with evidence = if withEvidence evidence(history, d) else null });
      at += 1;
    };
    List.toArray page
  };

  public func limits() : Interface.Limits = {
    payload_bytes_max = Nat64.fromNat(Limits.payloadBytesMax);
    messages_max = Nat64.fromNat(Limits.messagesMax);
    tools_max = Nat64.fromNat(Limits.toolsMax);
    tokens_max = Limits.tokensMax;
    queued_max = Nat64.fromNat(Limits.queuedMax);
    queued_per_caller_max = Nat64.fromNat(Bounds.queuedPerPersonMax);
    queued_per_canister_max = Nat64.fromNat(Bounds.queuedPerCanisterMax);
    block_requests_max = Nat64.fromNat(Limits.blockRequestsMax);
    block_payload_bytes_max = Nat64.fromNat(Limits.blockPayloadBytesMax);
    answer_bytes_max = Nat64.fromNat(Limits.answerBytesMax);
    alternatives_max = Nat64.fromNat(Bounds.alternativesMax);
    open_calls_max = Nat64.fromNat(Bounds.openFreeMax);
    open_calls_per_canister_max = Nat64.fromNat(Bounds.openPerCanisterMax);
    expiry_blocks_max = Bounds.expiryBlocksMax;
  };
};
