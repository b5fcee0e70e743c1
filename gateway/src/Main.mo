/// The gateway: orders prompts into blocks sealed with a beacon nobody knew when the prompts were fixed, certifies
/// the newest link, and gives answers back to those who asked. Formats: docs/spec/order.md; use: gateway/README.md.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import CertifiedData "mo:core/CertifiedData";
import Error "mo:core/Error";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Time "mo:core/Time";
import Int "mo:core/Int";
import Chain "Chain";
import Chat "Chat";
import FairQueue "FairQueue";
import Ledger "Ledger";
import Limits "Limits";
import Refusal "Refusal";

persistent actor Gateway {
  type Refusal = Refusal.Refusal;
  type Submitted = { #ticket : Nat64; #refused : Refusal };
  type Position = { height : Nat64; index : Nat64; id : Nat64 };
  type Sealed = {
    #sealed : { height : Nat64; link : Blob; count : Nat64 };
    #empty;
    #refused : Refusal;
  };
  type Slice = {
    blocks : [Blob];
    certificate : ?Blob;
    head_height : Nat64;
    head_link : Blob;
    oldest_height : Nat64;
  };
  type Headers = {
    headers : [Blob];
    certificate : ?Blob;
    head_height : Nat64;
    head_link : Blob;
    oldest_height : Nat64;
  };
  type Taken = {
    #waiting;
    #ordered : Position;
    #answered : {
      position : Position;
      answer : Blob;
      receipt : Blob;
      digest : Blob;
      signatures : [Ledger.Signature];
      dissenters : [Principal];
    };
    #refused : Refusal;
  };
  type Disagreement = {
    height : Nat64;
    index : Nat64;
    reporter : Principal;
    time : Nat64;
    kept : Blob;
    other : Blob;
    evidence : ?{ receipt : Blob; signature : Blob };
  };

  type Ticket = { caller : Principal; var position : ?Position };

  /// A block whose prompts are fixed and whose beacon is not drawn yet. At most one; it outlives a failed draw.
  type Draft = { height : Nat64; firstId : Nat64; tickets : [Nat64]; requests : [Blob]; requestRoot : Blob };

  let queue = FairQueue.empty();
  let ledger = Ledger.empty();
  let tickets = Map.empty<Nat64, Ticket>();
  var reporterSet : [Principal] = [];
  var nextTicket : Nat64 = 0;
  var nextId : Nat64 = 0;
  var draft : ?Draft = null;
  var headHeight : Nat64 = 0;
  var headLink : Blob = "";
  var headTime : Nat64 = 0;
  var historyBytesMax : Nat = Limits.historyBytesMax;

  transient let management : actor { raw_rand : () -> async Blob } = actor "aaaaa-aa";

  func canister() : Blob = Principal.toBlob(Principal.fromActor(Gateway));

  // Runs when the canister is installed and after every upgrade.
  if (headHeight == 0) headLink := Chain.genesis(canister());
  CertifiedData.set(headLink);

  func now() : Nat64 = Nat64.fromNat(Int.abs(Time.now()));

  func isReporter(caller : Principal) : Bool = Array.any<Principal>(reporterSet, func(p) = p == caller);

  func mayOperate(caller : Principal) : Bool = isReporter(caller) or Principal.isController(caller);

  // ---- what apps call

  func submit(caller : Principal, kind : Nat64, payload : Blob) : Submitted {
    if (Principal.isAnonymous(caller)) return #refused(Refusal.anonymous);
    let size = payload.size();
    if (size == 0) return #refused { code = "request.payload_empty"; expected = "at least 1 byte"; got = "0" };
    if (size > Limits.payloadBytesMax) {
      return #refused(Refusal.tooMany("request.payload_bytes", Limits.payloadBytesMax, size));
    };
    if (ledger.bytes > historyBytesMax and Ledger.isStuck(ledger)) {
      return #refused(Refusal.tooMany("history.full", historyBytesMax, ledger.bytes));
    };
    switch (FairQueue.refuse(queue, caller, size)) {
      case (?refusal) return #refused refusal;
      case null {};
    };
    let ticket = nextTicket;
    nextTicket += 1;
    FairQueue.push(queue, { ticket; caller; kind; payload });
    Map.add(tickets, Nat64.compare, ticket, { caller; var position = null : ?Position });
    #ticket ticket
  };

  /// A prompt the subnet's nodes can read. Returns a ticket at once; the answer comes through `take_answer`.
  public shared ({ caller }) func submit_chat(request : Chat.Request) : async Submitted {
    switch (Chat.refuse(request)) {
      case (?refusal) #refused refusal;
      case null submit(caller, 0, Chat.payload(request));
    }
  };

  /// A prompt sealed to the service key. The gateway sees bytes and their number.
  public shared ({ caller }) func submit_sealed(request : { payload : Blob }) : async Submitted {
    submit(caller, 1, request.payload)
  };

  /// Where a ticket stands. To its owner only; a stranger learns no more than that it is not theirs.
  public query ({ caller }) func take_answer(ticket : Nat64) : async Taken {
    let unknown : Taken = #refused {
      code = "ticket.unknown";
      expected = "a ticket of this caller that is still kept";
      got = Nat64.toText(ticket);
    };
    let ?owned = Map.get(tickets, Nat64.compare, ticket) else return unknown;
    if (owned.caller != caller) return unknown;
    let ?position = owned.position else return #waiting;
    switch (Ledger.answerAt(ledger, position.height, position.index)) {
      case (?a) #answered {
        position;
        answer = a.answer;
        receipt = a.receipt;
        digest = a.digest;
        signatures = a.signatures;
        dissenters = a.dissenters;
      };
      case null #ordered position;
    }
  };

  // ---- sealing

  func fix() : ?Draft {
    let items = FairQueue.take(queue);
    if (items.size() == 0) return null;
    let firstId = nextId;
    let requests = Array.tabulate<Blob>(
      items.size(),
      func(i) = Chain.request(
        firstId + Nat64.fromNat(i),
        Principal.toBlob(items[i].caller),
        items[i].kind,
        items[i].payload,
      ),
    );
    nextId += Nat64.fromNat(items.size());
    ?{
      height = headHeight + 1;
      firstId;
      tickets = Array.map<FairQueue.Item, Nat64>(items, func(item) = item.ticket);
      requests;
      requestRoot = Chain.requestRoot(requests);
    }
  };

  func seal(d : Draft, beacon : Blob) {
    // order.md O10: never below the time of the block before.
    headTime := Nat64.max(headTime, now());
    let header = Chain.header({
      canister = canister();
      height = d.height;
      parent = headLink;
      beacon;
      time = headTime;
      firstId = d.firstId;
      count = Nat64.fromNat(d.requests.size());
      requestRoot = d.requestRoot;
    });
    let link = Chain.link(header);
    let { height; firstId } = d;
    Ledger.add(ledger, { height; firstId; header; link; bytes = Chain.block(header, d.requests); tickets = d.tickets });
    for (index in d.tickets.keys()) {
      switch (Map.get(tickets, Nat64.compare, d.tickets[index])) {
        case (?ticket) {
          let at = Nat64.fromNat(index);
          ticket.position := ?{ height; index = at; id = firstId + at };
        };
        case null {};
      };
    };
    headHeight := height;
    headLink := link;
    draft := null;
    CertifiedData.set(link);
    forget();
  };

  func forget() {
    for (ticket in Ledger.prune(ledger, headHeight, historyBytesMax).vals()) {
      Map.remove(tickets, Nat64.compare, ticket);
    };
  };

  func sealedAt(height : Nat64) : Sealed = switch (Ledger.get(ledger, height)) {
    case (?block) #sealed { height; link = block.link; count = Nat64.fromNat(block.tickets.size()) };
    case null #empty;
  };

  /// Fixes the next block's prompts, then draws its beacon, then seals it. A draw that fails leaves the prompts
  /// fixed, and the next call draws again for the same list. Calls that overlap draw for the same list too: the
  /// first beacon to arrive seals it, the others find it sealed.
  public shared ({ caller }) func seal_block() : async Sealed {
    if (not mayOperate(caller)) return #refused(Refusal.notAllowed("a reporter or a controller", caller));
    if (draft == null) draft := fix();
    let ?fixed = draft else return #empty;
    // order.md: the state above is committed before randomness for it exists.
    let beacon = try { await management.raw_rand() } catch (e) {
      return #refused { code = "beacon.unavailable"; expected = "32 random bytes"; got = Error.message(e) };
    };
    if (headHeight >= fixed.height) return sealedAt(fixed.height);
    if (beacon.size() != 32) {
      return #refused { code = "beacon.size"; expected = "32 bytes"; got = Nat.toText(beacon.size()) };
    };
    seal(fixed, beacon);
    sealedAt(fixed.height)
  };

  // ---- what hosts read

  /// Whole blocks from a height on, as many as fit, with the certificate of the head. When the last block returned
  /// is not the head, `get_headers` gives the rest of the links.
  public query func get_slice(from_height : Nat64, max_blocks : Nat64) : async Slice {
    let blocks = List.empty<Blob>();
    let countMax = Nat.min(Nat64.toNat(max_blocks), Limits.sliceBlocksMax);
    var bytes = 0;
    var height = from_height;
    label reading while (List.size(blocks) < countMax) {
      let ?block = Ledger.get(ledger, height) else break reading;
      if (bytes > 0 and bytes + block.bytes.size() > Limits.sliceBytesMax) break reading;
      bytes += block.bytes.size();
      List.add(blocks, block.bytes);
      height += 1;
    };
    {
      blocks = List.toArray(blocks);
      certificate = CertifiedData.getCertificate();
      head_height = headHeight;
      head_link = headLink;
      oldest_height = ledger.oldest;
    }
  };

  /// Encoded headers from a height on: the links of a slice proof without the prompts.
  public query func get_headers(from_height : Nat64, max_headers : Nat64) : async Headers {
    let headers = List.empty<Blob>();
    let countMax = Nat.min(Nat64.toNat(max_headers), Limits.headersMax);
    var height = from_height;
    label reading while (List.size(headers) < countMax) {
      let ?block = Ledger.get(ledger, height) else break reading;
      List.add(headers, block.header);
      height += 1;
    };
    {
      headers = List.toArray(headers);
      certificate = CertifiedData.getCertificate();
      head_height = headHeight;
      head_link = headLink;
      oldest_height = ledger.oldest;
    }
  };

  // ---- what reporters bring

  public shared ({ caller }) func report_answer(report : Ledger.Report) : async Ledger.Outcome {
    if (not isReporter(caller)) return #refused(Refusal.notAllowed("a registered reporter", caller));
    let outcome = Ledger.report(ledger, caller, now(), report);
    forget();
    outcome
  };

  public query func answer_digest(height : Nat64, index : Nat64) : async ?Blob {
    let ?answer = Ledger.answerAt(ledger, height, index) else return null;
    ?answer.digest
  };

  /// Disagreements in the order they came. The receipt that disagreed goes to reporters and controllers only.
  public query ({ caller }) func divergences(from : Nat64, max : Nat64) : async {
    seen : Nat64;
    divergences : [Disagreement];
  } {
    let page = List.empty<Disagreement>();
    let countMax = Nat.min(Nat64.toNat(max), Limits.divergencesPageMax);
    var at = Nat64.toNat(from);
    label reading while (List.size(page) < countMax) {
      let ?d = List.get(ledger.divergences, at) else break reading;
      let { receipt; signature } = d;
      List.add(page, { d with evidence = if (mayOperate(caller)) ?{ receipt; signature } else null });
      at += 1;
    };
    { seen = ledger.divergencesSeen; divergences = List.toArray(page) }
  };

  // ---- what controllers set

  public shared ({ caller }) func set_reporters(reporters : [Principal]) : async { #set; #refused : Refusal } {
    if (not Principal.isController(caller)) return #refused(Refusal.notAllowed("a controller", caller));
    if (reporters.size() > Limits.reportersMax) {
      return #refused(Refusal.tooMany("reporters", Limits.reportersMax, reporters.size()));
    };
    if (Array.any<Principal>(reporters, Principal.isAnonymous)) return #refused(Refusal.anonymous);
    reporterSet := reporters;
    #set
  };

  /// How much history is kept. A lower bound is in force at once.
  public shared ({ caller }) func set_history(bytes_max : Nat64) : async { #set; #refused : Refusal } {
    if (not Principal.isController(caller)) return #refused(Refusal.notAllowed("a controller", caller));
    let bytes = Nat64.toNat(bytes_max);
    if (bytes > Limits.historyBytesMax) return #refused(Refusal.tooMany("history.bytes", Limits.historyBytesMax, bytes));
    historyBytesMax := bytes;
    forget();
    #set
  };

  public query func reporters() : async [Principal] { reporterSet };

  public query func status() : async {
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
  } {
    {
      head_height = headHeight;
      head_link = headLink;
      oldest_height = ledger.oldest;
      queued = Nat64.fromNat(queue.size);
      queued_bytes = Nat64.fromNat(queue.bytes);
      callers_waiting = Nat64.fromNat(FairQueue.callers(queue));
      fixed = switch draft { case (?d) Nat64.fromNat(d.requests.size()); case null 0 };
      next_id = nextId;
      next_ticket = nextTicket;
      history_bytes = Nat64.fromNat(ledger.bytes);
    }
  };

  public query func limits() : async {
    payload_bytes_max : Nat64;
    messages_max : Nat64;
    tools_max : Nat64;
    tokens_max : Nat64;
    queued_max : Nat64;
    queued_per_caller_max : Nat64;
    block_requests_max : Nat64;
    block_payload_bytes_max : Nat64;
    answer_bytes_max : Nat64;
  } {
    {
      payload_bytes_max = Nat64.fromNat(Limits.payloadBytesMax);
      messages_max = Nat64.fromNat(Limits.messagesMax);
      tools_max = Nat64.fromNat(Limits.toolsMax);
      tokens_max = Limits.tokensMax;
      queued_max = Nat64.fromNat(Limits.queuedMax);
      queued_per_caller_max = Nat64.fromNat(Limits.queuedPerCallerMax);
      block_requests_max = Nat64.fromNat(Limits.blockRequestsMax);
      block_payload_bytes_max = Nat64.fromNat(Limits.blockPayloadBytesMax);
      answer_bytes_max = Nat64.fromNat(Limits.answerBytesMax);
    }
  };

  /// Ingress messages that would only waste cycles are not even accepted. Every rule is checked again inside.
  system func inspect({ caller : Principal; arg : Blob }) : Bool {
    not Principal.isAnonymous(caller) and arg.size() <= Limits.argumentBytesMax
  };
};
