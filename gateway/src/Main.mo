/// The gateway: orders prompts into blocks sealed with a beacon nobody knew when the prompts were fixed, certifies
/// the newest link and what was answered, and gives answers back to those who asked. Formats: docs/spec/order.md;
/// use: gateway/README.md.
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import CertifiedData "mo:core/CertifiedData";
import Error "mo:core/Error";
import Int "mo:core/Int";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Queue "mo:core/Queue";
import Time "mo:core/Time";
import Admission "Admission";
import Answers "Answers";
import Bounds "Bounds";
import Callback "Callback";
import Chain "Chain";
import Chat "Chat";
import Door "Door";
import History "History";
import Interface "Interface";
import Legacy "Legacy";
import Limits "Limits";
import OpenCalls "OpenCalls";
import Refusal "Refusal";
import Sealing "Sealing";
import Tickets "Tickets";
import Views "Views";

persistent actor Gateway {
  type Refusal = Refusal.Refusal;

  // The first module's state under its names; empty from this module's first start on.
  let queue = Legacy.emptyQueue();
  let ledger = Legacy.emptyLedger();
  let tickets = Legacy.emptyTickets();
  var nextTicket : Nat64 = 0;
  var draft : ?Legacy.Draft = null;

  let admission = Admission.empty();
  let history = History.empty();
  let book = Tickets.empty();
  let sealing = Sealing.start();
  var reporterSet : [Principal] = [];
  var nextId : Nat64 = 0;
  var headHeight : Nat64 = 0;
  var headLink : Blob = "";
  var headTime : Nat64 = 0;
  var historyBytesMax : Nat = Limits.historyBytesMax;

  // Of this module's run alone: none of it outlives an upgrade, which waits until calls and draws have ended.
  transient let calls = OpenCalls.none();
  transient var draining : Bool = false;
  transient var draws : Nat64 = 0;
  transient var wakeAt : Nat64 = 0; // when the timer is to run; 0: not
  transient var setTimer : ?(Nat64 -> ()) = null; // known from the timer's first run on, right after the start
  transient let outbox : Callback.Outbox = Queue.empty<(Interface.Callback, Interface.Notification)>();
  transient let management : actor { raw_rand : () -> async Blob } = actor "aaaaa-aa";

  func canister() : Blob = Principal.toBlob(Principal.fromActor(Gateway));

  func now() : Nat64 = Nat64.fromNat(Int.abs(Time.now()));

  func isReporter(caller : Principal) : Bool = Array.any<Principal>(reporterSet, func(p) = p == caller);

  func mayOperate(caller : Principal) : Bool = isReporter(caller) or Principal.isController(caller);

  /// A module with a lower bound than the one that was set wins.
  func historyMax() : Nat = Nat.min(historyBytesMax, Limits.historyBytesMax);

  func certify() = CertifiedData.set(Answers.root(history.tree, headLink));

  // ---- what apps call

  func admit(caller : Principal, kind : Nat64, payload : Blob, callback : ?Interface.Callback) : Interface.Submitted {
    if (Principal.isAnonymous caller) return #refused(Refusal.anonymous);
    let size = payload.size();
    if (size == 0) return #refused { code = "request.payload_empty"; expected = "at least 1 byte"; got = "0" };
    if (size > Limits.payloadBytesMax) {
      return #refused(Refusal.tooMany("request.payload_bytes", Limits.payloadBytesMax, size));
    };
    switch (Admission.judge(admission, caller, false, size)) {
      case (#refuse refusal) return #refused refusal;
      case (#replace owner) pushOut(owner);
      case (#enter) {};
    };
    let ticket = Tickets.open(book, caller, callback);
    Admission.push(admission, false, { ticket; caller; kind; payload });
    arm();
    #ticket ticket
  };

  func pushOut(owner : Principal) {
    let ?item = Admission.evict(admission, false, owner) else return;
    Tickets.pushOut(book, item);
    tell(item.ticket, #refused(Tickets.pushedOut));
  };

  func admitChat(caller : Principal, request : Chat.Request, callback : ?Interface.Callback) : Interface.Submitted {
    switch (Chat.refuse request) {
      case (?refusal) #refused refusal;
      case null admit(caller, Chat.plain, Chat.payload request, callback);
    }
  };

  /// A prompt the subnet's nodes can read. Returns a ticket at once; the answer comes through `take_answer`.
  public shared ({ caller }) func submit_chat(request : Chat.Request) : async Interface.Submitted {
    let submitted = admitChat(caller, request, null);
    await* Callback.send outbox;
    submitted
  };

  /// The same for a canister that wants to be called when there is an answer. The callback is one of its own methods.
  public shared ({ caller }) func submit_chat_notify(request : Chat.Request, callback : Interface.Callback) : async Interface.Submitted {
    let submitted = switch (Callback.refuse(callback, caller)) {
      case (?refusal) #refused refusal;
      case null admitChat(caller, request, ?callback);
    };
    await* Callback.send outbox;
    submitted
  };

  /// A prompt sealed to the service key. The gateway sees bytes and their number.
  public shared ({ caller }) func submit_sealed(request : { payload : Blob }) : async Interface.Submitted {
    let submitted = admit(caller, Chat.isSealed, request.payload, null);
    await* Callback.send outbox;
    submitted
  };

  /// What became of a ticket: its answers, the first one first, or why there will be none. Null while it is open.
  func outcome(ticket : Tickets.Ticket) : ?{ #answered : (Interface.Position, [History.Answer]); #refused : Refusal } {
    switch (ticket.standing) {
      case (#waiting) null;
      case (#pushedOut) ?#refused(Tickets.pushedOut);
      case (#ordered at) switch (History.slotAt(history, at.height, at.index)) {
        case (#open) null;
        case (#expired) ?#refused(Tickets.expired);
        case (#answered { answers }) ?#answered(at, answers);
      };
    }
  };

  func reply(number : Nat64, ticket : Tickets.Ticket) : ?Views.Outcome = switch (outcome ticket) {
    case null null;
    case (?#refused refusal) ?#refused refusal;
    case (?#answered(position, answers)) ?Views.reply(number, position, answers[0]);
  };

  /// The LLM canister's call: waits for the answer. What the reply has besides `message` other clients ignore.
  func ask(caller : Principal, request : Chat.Request) : async* Interface.Reply {
    if draining throw Refusal.error(OpenCalls.draining);
    switch (OpenCalls.refuse(calls, caller)) { case (?refusal) throw Refusal.error refusal; case null {} };
    let number = switch (admitChat(caller, request, null)) {
      case (#refused refusal) throw Refusal.error refusal;
      case (#ticket number) number;
    };
    let ?ticket = Tickets.get(book, number) else throw Error.reject("ticket.unknown");
    let until = now() + Bounds.patienceNanoseconds;
    OpenCalls.begin(calls, caller);
    try {
      loop {
        switch (reply(number, ticket)) {
          case (?#answered answered) return answered;
          case (?#refused refusal) throw Refusal.error refusal;
          case null {};
        };
        if (draining or now() > until) throw Refusal.error(OpenCalls.pending number);
        switch (await* draw(now() >= Sealing.soonest sealing)) {
          case (?_) throw Refusal.error(OpenCalls.pending number);
          case null {};
        };
      }
    } finally OpenCalls.end(calls, caller);
  };

  public shared ({ caller }) func v1_chat(request : Chat.Request) : async Interface.Reply {
    await* ask(caller, request)
  };

  public shared ({ caller }) func v0_chat(request : Chat.RequestV0) : async Text {
    let { message } = await* ask(caller, Chat.ofV0 request);
    switch (message.content) { case (?words) words; case null "" }
  };

  /// Where a ticket stands. To its owner only; a stranger learns no more than that it is not theirs.
  public query ({ caller }) func take_answer(ticket : Nat64) : async Interface.Taken {
    let unknown : Interface.Taken = #refused {
      code = "ticket.unknown";
      expected = "a ticket of this caller that is still kept";
      got = Nat64.toText ticket;
    };
    let ?owned = Tickets.get(book, ticket) else return unknown;
    if (owned.caller != caller) return unknown;
    switch (owned.standing, outcome owned) {
      case (#ordered position, null) #ordered position;
      case (_, null) #waiting;
      case (_, ?#refused refusal) #refused refusal;
      case (_, ?#answered(position, _)) switch (History.slotAt(history, position.height, position.index)) {
        case (#answered found) #answered(Views.answered(position, found, proof(position.id)));
        case _ #ordered position;
      };
    }
  };

  func proof(id : Nat64) : Interface.Proof = {
    certificate = CertifiedData.getCertificate();
    tree = Answers.witness(history.tree, headLink, id);
  };

  /// What the subnet certifies of one request, by its id: the record of its answers, or that there is none. Digests only.
  public query func prove_answer(id : Nat64) : async Interface.Proof { proof id };

  // ---- sealing

  /// Sets the one timer for the next block, if something waits; sooner than it was set if a block is full.
  func arm() {
    if (draining or (Admission.size admission == 0 and sealing.draft == null)) return;
    let at = now() + Sealing.delay(sealing, now(), Admission.fillsBlock admission);
    if (wakeAt != 0 and wakeAt <= at) return;
    wakeAt := at;
    switch setTimer { case (?set) set at; case null {} };
  };

  /// The system's timer itself and not the library's: that one costs two messages more for each block.
  system func timer(set : Nat64 -> ()) : async () {
    setTimer := ?set;
    if (wakeAt == 0) return;
    if (now() < wakeAt) return set wakeAt;
    wakeAt := 0;
    if (not draining and now() >= Sealing.soonest sealing) ignore await* draw(true);
    arm();
  };

  /// Draws randomness; with `seals`, for the next block, which is fixed before. Says what failed, if anything did.
  func draw(seals : Bool) : async* ?Refusal {
    if (seals and sealing.draft == null) {
      sealing.draft := Sealing.fix(admission, headHeight + 1, nextId);
      switch (sealing.draft) { case (?d) nextId += Nat64.fromNat(d.requests.size()); case null {} };
    };
    let fixed = sealing.draft;
    // order.md O10: the state above is committed before randomness for it exists.
    draws += 1;
    let beacon = try { await management.raw_rand() } catch (e) {
      return ?{ code = "beacon.unavailable"; expected = "32 random bytes"; got = Error.message e };
    } finally { draws -= 1 };
    let ?d = fixed else return null;
    if (headHeight >= d.height) return null;
    if (beacon.size() != 32) {
      return ?{ code = "beacon.size"; expected = "32 bytes"; got = Nat.toText(beacon.size()) };
    };
    seal(d, beacon);
    await* Callback.send outbox;
    null
  };

  func seal(d : Sealing.Draft, beacon : Blob) {
    // order.md O10: never below the time of the block before.
    headTime := Nat64.max(headTime, now());
    sealing.sealedAt := now();
    let { height; firstId; requests; leaves; requestRoot } = d;
    let (expired, gone) = History.expire(history, height, Sealing.pace(sealing).expiry_blocks, historyMax());
    let header = Chain.header({
      canister = canister();
      height;
      parent = headLink;
      beacon;
      time = headTime;
      firstId;
      count = Nat64.fromNat(requests.size());
      requestRoot;
      expired;
    });
    headLink := Chain.link header;
    headHeight := height;
    History.add(history, { height; header; link = headLink; firstId; requests; leaves });
    for (at in requests.keys()) {
      let index = Nat64.fromNat at;
      Tickets.order(book, requests[at].ticket, { height; index; id = firstId + index });
    };
    sealing.draft := null;
    forget();
    certify();
    for ({ ticket } in gone.vals()) tell(ticket, #refused(Tickets.expired));
  };

  func forget() {
    for ({ ticket } in History.prune(history, headHeight, historyMax()).vals()) Tickets.forget(book, ticket);
  };

  func sealedAt(height : Nat64) : Interface.Sealed = switch (History.get(history, height)) {
    case (?block) #sealed { height; link = block.link; count = Nat64.fromNat(block.requests.size()) };
    case null #empty;
  };

  /// Seals the next block at once, for a host that does not want to wait for the timer. A draw that fails leaves the
  /// prompts fixed, and the next call draws again for the same list. Calls that overlap draw for the same list too: the
  /// first beacon to arrive seals it, the others find it sealed.
  public shared ({ caller }) func seal_block() : async Interface.Sealed {
    if (not mayOperate caller) return #refused(Refusal.notAllowed("a reporter or a controller", caller));
    if (sealing.draft == null and Admission.size admission == 0) return #empty;
    let height = headHeight + 1;
    switch (await* draw true) {
      case (?refusal) #refused refusal;
      case null sealedAt height;
    }
  };

  // ---- what hosts and auditors read

  /// Whole blocks from a height on, as many as fit, with the certificate of the head: to reporters and controllers, since
  /// prompts stand in them. Everyone else has `get_headers` and `get_entries`.
  public query ({ caller }) func get_slice(from_height : Nat64, max_blocks : Nat64) : async Interface.Slice {
    if (not mayOperate caller) throw Refusal.error(Refusal.notAllowed("a reporter or a controller", caller));
    let blocks = List.empty<Blob>();
    let countMax = Nat.min(Nat64.toNat max_blocks, Limits.sliceBlocksMax);
    var bytes = 0;
    var height = from_height;
    label reading while (List.size blocks < countMax) {
      let ?block = History.get(history, height) else break reading;
      let encoded = History.encoded block;
      if (bytes > 0 and bytes + encoded.size() > Limits.sliceBytesMax) break reading;
      bytes += encoded.size();
      List.add(blocks, encoded);
      height += 1;
    };
    { head() with blocks = List.toArray blocks }
  };

  /// Encoded headers from a height on: the links of a slice proof without the prompts.
  public query func get_headers(from_height : Nat64, max_headers : Nat64) : async Interface.Headers {
    let headers = List.empty<Blob>();
    let countMax = Nat.min(Nat64.toNat max_headers, Limits.headersMax);
    var height = from_height;
    label reading while (List.size headers < countMax) {
      let ?block = History.get(history, height) else break reading;
      List.add(headers, block.header);
      height += 1;
    };
    { head() with headers = List.toArray headers }
  };

  func head() : { certificate : ?Blob; tree : Blob; head_height : Nat64; head_link : Blob; oldest_height : Nat64 } = {
    certificate = CertifiedData.getCertificate();
    tree = Answers.linkWitness(history.tree, headLink);
    head_height = headHeight;
    head_link = headLink;
    oldest_height = history.oldest;
  };

  /// One block's requests: in full to reporters and controllers, and to a caller its own; else the leaf of each, from
  /// which the header's request root follows just as well.
  public query ({ caller }) func get_entries(height : Nat64) : async ?Interface.Entries {
    let ?block = History.get(history, height) else return null;
    ?Views.entries(block, caller, mayOperate caller)
  };

  // ---- what reporters bring

  public shared ({ caller }) func report_answer(report : History.Report) : async History.Outcome {
    if (not isReporter caller) return #refused(Refusal.notAllowed("a registered reporter", caller));
    let outcome = History.report(history, canister(), caller, now(), report);
    switch outcome {
      case (#refused _) return outcome;
      case (#recorded _) tellAt(report.height, report.index);
      case _ {};
    };
    forget();
    certify();
    await* Callback.send outbox;
    outcome
  };

  func tellAt(height : Nat64, index : Nat64) {
    let ?block = History.get(history, height) else return;
    let number = block.requests[Nat64.toNat index].ticket;
    let ?ticket = Tickets.get(book, number) else return;
    if (ticket.callback == null) return;
    switch (reply(number, ticket)) { case (?found) tell(number, found); case null {} };
  };

  func tell(number : Nat64, outcome : Views.Outcome) {
    let ?{ callback = ?callback } = Tickets.get(book, number) else return;
    Queue.pushBack(outbox, (callback, { ticket = number; outcome }));
  };

  /// The digest of the first answer's receipt.
  public query func answer_digest(height : Nat64, index : Nat64) : async ?Blob {
    switch (History.slotAt(history, height, index)) {
      case (#answered { answers }) ?answers[0].digest;
      case _ null;
    }
  };

  /// Disagreements in the order they came. The receipt that disagreed goes to reporters and controllers only.
  public query ({ caller }) func divergences(from : Nat64, max : Nat64) : async {
    seen : Nat64;
    divergences : [Interface.Disagreement];
  } {
    { seen = history.divergencesSeen; divergences = Views.divergences(history, from, max, mayOperate caller) }
  };

  // ---- what controllers set

  func set(caller : Principal, change : () -> ?Refusal) : Interface.Set {
    if (not Principal.isController caller) return #refused(Refusal.notAllowed("a controller", caller));
    switch (change()) { case (?refusal) #refused refusal; case null #set }
  };

  public shared ({ caller }) func set_reporters(reporters : [Principal]) : async Interface.Set {
    set(
      caller,
      func() : ?Refusal {
        if (reporters.size() > Limits.reportersMax) {
          return ?Refusal.tooMany("reporters", Limits.reportersMax, reporters.size());
        };
        if (Array.any<Principal>(reporters, Principal.isAnonymous)) return ?Refusal.anonymous;
        reporterSet := reporters;
        null
      },
    )
  };

  /// How much history is kept. A lower bound is in force at once.
  public shared ({ caller }) func set_history(bytes_max : Nat64) : async Interface.Set {
    set(
      caller,
      func() : ?Refusal {
        let bytes = Nat64.toNat bytes_max;
        if (bytes > Limits.historyBytesMax) return ?Refusal.tooMany("history.bytes", Limits.historyBytesMax, bytes);
        historyBytesMax := bytes;
        forget();
        certify();
        null
      },
    )
  };

  /// When blocks are sealed, and after how many of them a request expires that nobody answered.
  public shared ({ caller }) func set_pace(pace : Interface.Pace) : async Interface.Set {
    set(caller, func() : ?Refusal = Sealing.setPace(sealing, pace))
  };

  /// Before an upgrade: no call waits here any longer and no draw is begun; prompts are still taken. `status` tells when
  /// nothing is open. The upgrade ends it, or another call of this.
  public shared ({ caller }) func set_draining(on : Bool) : async Interface.Set {
    let done = set(caller, func() : ?Refusal { draining := on; null });
    arm();
    done
  };

  public query func reporters() : async [Principal] { reporterSet };

  public query func status() : async Interface.Status {
    {
      head_height = headHeight;
      head_link = headLink;
      oldest_height = history.oldest;
      queued = Nat64.fromNat(Admission.size admission);
      queued_bytes = Nat64.fromNat(Admission.bytes admission);
      callers_waiting = Nat64.fromNat(Admission.callers admission);
      fixed = switch (sealing.draft) { case (?d) Nat64.fromNat(d.requests.size()); case null 0 };
      next_id = nextId;
      next_ticket = book.next;
      history_bytes = Nat64.fromNat(history.bytes);
      open_calls = Nat64.fromNat(calls.count);
      draws;
      draining;
      expired = history.expired;
      pace = Sealing.pace sealing;
    }
  };

  /// What would be refused of one more prompt of the caller: an ingress message that would be is turned away at the door,
  /// without a reason.
  public query ({ caller }) func admission_refusal() : async ?Refusal {
    if (Principal.isAnonymous caller) return ?Refusal.anonymous;
    switch (Admission.judge(admission, caller, false, 1)) { case (#refuse refusal) ?refusal; case _ null }
  };

  public query func limits() : async Interface.Limits { Views.limits() };

  /// An ingress message that would be refused is not even accepted, so that it costs no more than the looking. What the
  /// message says is not read for this, and every rule is checked again inside.
  system func inspect({ caller : Principal; arg : Blob; msg : Door.Message }) : Bool {
    let size = arg.size();
    switch (Door.of msg) {
      case (#asking) {
        Door.isSigned(caller) and size <= Bounds.argumentBytesMax and (
          switch (Admission.judge(admission, caller, false, 1)) { case (#refuse _) false; case _ true }
        )
      };
      case (#waiting) not draining and Door.isSigned(caller) and size <= Bounds.argumentBytesMax and OpenCalls.refuse(calls, caller) == null;
      case (#owning) Door.isSigned(caller) and size <= Door.smallBytesMax;
      case (#reporting) isReporter caller and size <= Door.reportBytesMax();
      case (#operating) mayOperate caller and size <= Door.smallBytesMax;
      case (#controlling) Principal.isController caller and size <= Bounds.argumentBytesMax;
    }
  };

  // Runs when the canister is installed and after every upgrade.
  if (headHeight == 0) headLink := Chain.genesis(canister());
  Legacy.moveQueue(queue, admission);
  Legacy.moveTickets(tickets, nextTicket, book);
  nextTicket := 0;
  Legacy.moveLedger(ledger, history);
  Legacy.moveDraft(draft, sealing);
  draft := null;
  forget();
  certify();
  arm();
};
