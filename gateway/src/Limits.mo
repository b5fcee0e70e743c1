/// Every bound of the gateway, unit in the name. They are compiled in: changing one is a new module hash,
/// which an auditor of the canister sees.
///
/// Shapes follow the Internet Computer's LLM canister; the figures are raised from its 10 messages, 10 KiB and
/// 1,000 tokens. Cells and hosts have the same figures (foundation/limits.py; a test compares them), so that nothing is
/// ordered only to be refused by a cell, and every answer that a cell may give is taken. A block must fit in one query
/// reply with its certificate (3 MiB on the Internet Computer), and a request or an answer in one ingress message (2 MiB).
module {
  // One request.
  public let payloadBytesMax : Nat = 131_072;
  public let argumentBytesMax : Nat = 1_048_576; // before decoding: an ingress message beyond it is not accepted
  public let modelBytesMax : Nat = 128;
  public let messagesMax : Nat = 128;
  public let toolsMax : Nat = 64;
  public let propertiesMax : Nat = 64; // of one tool; also its required names, and the values of one enum
  public let toolCallsMax : Nat = 64; // in one assistant message
  public let argumentsMax : Nat = 64; // of one tool call
  public let stopsMax : Nat = 16;
  public let stopBytesMax : Nat = 256;
  public let tokensMax : Nat64 = 32_768;
  public let temperatureMicroMax : Nat64 = 2_000_000;
  public let topKMax : Nat64 = 1_048_576;
  public let topPMicroMax : Nat64 = 1_000_000;
  public let minPMicroMax : Nat64 = 1_000_000;
  public let repetitionPenaltyMicroMin : Nat64 = 100_000;
  public let repetitionPenaltyMicroMax : Nat64 = 10_000_000;
  public let penaltyMicroMax : Int64 = 2_000_000; // either way
  public let logitBiasesMax : Nat = 256;
  public let logitBiasMicroMax : Int64 = 100_000_000; // either way
  public let biasedTokenMax : Nat64 = 1_048_575;

  // The queue, before a block is fixed.
  public let queuedMax : Nat = 4_096;
  public let queuedBytesMax : Nat = 67_108_864;
  public let queuedPerCallerMax : Nat = 64;

  // One block.
  public let blockRequestsMax : Nat = 256;
  public let blockPayloadBytesMax : Nat = 1_048_576;

  // One reply to a reader. One block is always sent, however small the bound.
  public let sliceBytesMax : Nat = 1_572_864;
  public let sliceBlocksMax : Nat = 256;
  public let headersMax : Nat = 4_096;
  public let divergencesPageMax : Nat = 256;

  // What reporters bring.
  public let reportersMax : Nat = 64;
  public let answerBytesMax : Nat = 655_360;
  public let receiptBytesMax : Nat = 16_384;
  public let signatureBytesMax : Nat = 16_384;
  public let signaturesMax : Nat = 16; // kept per answer, one per reporter
  public let divergencesMax : Nat = 4_096; // kept in full; later ones are only counted

  // What is remembered: blocks with their answers; a controller may set it lower. The oldest fully answered block
  // goes first; while the oldest is not fully answered nothing goes, and new prompts are refused instead.
  public let historyBytesMax : Nat = 1_073_741_824;
};
