/// The bounds of the gateway's own: how much waits, how long, and how much is kept. What bounds one request is in
/// Limits.mo, because the cell bounds it too. Compiled in: changing one is a new module hash, which an auditor of the
/// canister sees, and a lower one is in force from that module's first message on.
module {
  // An ingress message beyond this is not looked into. A chat request is shorter in Candid than in its payload, its
  // types apart.
  public let argumentBytesMax : Nat = 147_456;

  // Waiting prompts. The paid ones wait apart and are bounded alike, so that free ones never stand in their way.
  public let reserved : Nat = 512; // places that only a caller with nothing waiting may take
  public let queuedPerPersonMax : Nat = 64;
  public let queuedPerCanisterMax : Nat = 256; // a canister asks for many people
  public let paidFactor : Nat = 4; // how much more a caller who pays may have waiting

  // Calls held open. A pair of canisters has room for 500 calls on their way.
  public let openMax : Nat = 400;
  public let openFreeMax : Nat = 200;
  public let openPerPersonMax : Nat = 4;
  public let openPerCanisterMax : Nat = 64;
  public let patienceNanoseconds : Nat64 = 290_000_000_000; // below the five minutes that an ingress message lives

  // When blocks are sealed and when requests expire. What a controller may set, and what holds until one does.
  public let paceMillisecondsMax : Nat64 = 60_000;
  public let soonestMilliseconds : Nat64 = 500;
  public let latestMilliseconds : Nat64 = 1_000;
  public let expiryBlocksMin : Nat64 = 16;
  public let expiryBlocksMax : Nat64 = 65_536;
  public let expiryBlocks : Nat64 = 512;
  public let expiredRangesMax : Nat = 12; // in one header
  public let expiredIdsMax : Nat64 = 65_535; // in one range

  // Answers to one request, each with those who reported it.
  public let alternativesMax : Nat = 4;
  public let divergencesMax : Nat = 4_096; // entries of fixed size: the receipts are with the answers

  // Calls to callbacks in one message.
  public let callbacksMax : Nat = 128;
  public let callbackSeconds : Nat32 = 60;

  public let entryBytesMax : Nat = 1_572_864; // of one block's requests in one reply
};
