/// What the gateway's callers see: the types of its methods. A later module may add optional fields to what it takes and
/// fields to what it returns; a test holds it to what the first module had.
import Chat "Chat";
import History "History";
import Refusal "Refusal";

module {
  type Refusal = Refusal.Refusal;

  public type Submitted = { #ticket : Nat64; #refused : Refusal };
  public type Position = { height : Nat64; index : Nat64; id : Nat64 };
  public type Sealed = {
    #sealed : { height : Nat64; link : Blob; count : Nat64 };
    #empty;
    #refused : Refusal;
  };
  public type Set = { #set; #refused : Refusal };

  /// `tree` is the hash tree whose root is the certified data, with the link shown in it.
  public type Slice = {
    blocks : [Blob];
    certificate : ?Blob;
    tree : Blob;
    head_height : Nat64;
    head_link : Blob;
    oldest_height : Nat64;
  };
  public type Headers = {
    headers : [Blob];
    certificate : ?Blob;
    tree : Blob;
    head_height : Nat64;
    head_link : Blob;
    oldest_height : Nat64;
  };
  /// A request in full, to reporters and to its owner, or its leaf in the block's tree.
  public type Entry = { #request : Blob; #leaf : Blob };
  public type Entries = { header : Blob; entries : [Entry] };

  /// The first answer, the others that were reported, and the tree in which this request's record is shown.
  public type Answered = {
    position : Position;
    answer : Blob;
    receipt : Blob;
    digest : Blob;
    signatures : [History.Signature];
    dissenters : [Principal];
    others : [History.Answer];
    certificate : ?Blob;
    tree : Blob;
  };
  public type Taken = { #waiting; #ordered : Position; #answered : Answered; #refused : Refusal };
  public type Proof = { certificate : ?Blob; tree : Blob };

  public type Disagreement = {
    height : Nat64;
    index : Nat64;
    reporter : Principal;
    time : Nat64;
    kept : Blob;
    other : Blob;
    evidence : ?{ receipt : Blob; signature : Blob };
  };

  /// What `v1_chat` returns: the LLM canister's `message`, and what this gateway knows besides.
  public type Reply = {
    message : Chat.AssistantMessage;
    ticket : Nat64;
    position : Position;
    receipt : Blob;
    digest : Blob;
    signatures : [History.Signature];
  };
  public type Notification = { ticket : Nat64; outcome : { #answered : Reply; #refused : Refusal } };
  public type Callback = shared Notification -> ();

  public type Pace = { soonest_ms : Nat64; latest_ms : Nat64; expiry_blocks : Nat64 };

  public type Status = {
    head_height : Nat64;
    head_link : Blob;
    oldest_height : Nat64;
    queued : Nat64;
    queued_bytes : Nat64;
    callers_waiting : Nat64;
    fixed : Nat64;
    next_id : Nat64;
    next_ticket : Nat64;
    history_bytes : Nat64;
    open_calls : Nat64;
    draws : Nat64;
    draining : Bool;
    expired : Nat64;
    pace : Pace;
  };

  public type Limits = {
    payload_bytes_max : Nat64;
    messages_max : Nat64;
    tools_max : Nat64;
    tokens_max : Nat64;
    queued_max : Nat64;
    queued_per_caller_max : Nat64;
    queued_per_canister_max : Nat64;
    block_requests_max : Nat64;
    block_payload_bytes_max : Nat64;
    answer_bytes_max : Nat64;
    alternatives_max : Nat64;
    open_calls_max : Nat64;
    open_calls_per_canister_max : Nat64;
    expiry_blocks_max : Nat64;
  };
};
