/// When the next block is sealed, and from what. Prompts are fixed first, then the beacon is drawn, then the block is
/// sealed (order.md O10). Draws overlap: the first beacon that was asked for after the prompts were fixed seals them.
import Array "mo:core/Array";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Admission "Admission";
import Bounds "Bounds";
import Chain "Chain";
import History "History";
import Interface "Interface";
import Refusal "Refusal";

module {
  /// A block whose prompts are fixed and whose beacon is not drawn yet. At most one; it outlives a failed draw.
  public type Draft = {
    height : Nat64;
    firstId : Nat64;
    requests : [History.Request];
    leaves : [Blob];
    requestRoot : Blob;
  };

  public type Sealing = {
    var draft : ?Draft;
    var pace : Interface.Pace;
    var sealedAt : Nat64; // when the newest block was sealed
  };

  let millisecond : Nat64 = 1_000_000;

  public func start() : Sealing = {
    var draft = null;
    var pace = {
      soonest_ms = Bounds.soonestMilliseconds;
      latest_ms = Bounds.latestMilliseconds;
      expiry_blocks = Bounds.expiryBlocks;
    };
    var sealedAt = 0;
  };

  /// The settings in force: a module with tighter bounds than the one they were made under wins.
  public func pace(self : Sealing) : Interface.Pace {
    let { soonest_ms; latest_ms; expiry_blocks } = self.pace;
    let latest = Nat64.min(latest_ms, Bounds.paceMillisecondsMax);
    {
      soonest_ms = Nat64.min(soonest_ms, latest);
      latest_ms = latest;
      expiry_blocks = Nat64.max(Bounds.expiryBlocksMin, Nat64.min(expiry_blocks, Bounds.expiryBlocksMax));
    }
  };

  public func setPace(self : Sealing, to : Interface.Pace) : ?Refusal.Refusal {
    if (to.latest_ms > Bounds.paceMillisecondsMax) {
      return ?Refusal.tooMany("pace.latest_ms", Nat64.toNat(Bounds.paceMillisecondsMax), Nat64.toNat(to.latest_ms));
    };
    if (to.soonest_ms > to.latest_ms) {
      return ?Refusal.tooMany("pace.soonest_ms", Nat64.toNat(to.latest_ms), Nat64.toNat(to.soonest_ms));
    };
    if (to.expiry_blocks < Bounds.expiryBlocksMin or to.expiry_blocks > Bounds.expiryBlocksMax) return ?{
      code = "pace.expiry_blocks";
      expected = Nat64.toText(Bounds.expiryBlocksMin) # " to " # Nat64.toText(Bounds.expiryBlocksMax);
      got = Nat64.toText(to.expiry_blocks);
    };
    self.pace := to;
    null
  };

  /// The earliest time at which the next block may be fixed.
  public func soonest(self : Sealing) : Nat64 = self.sealedAt + pace(self).soonest_ms * millisecond;

  /// How long the timer sleeps, from `now` on: until the block is due that a prompt just came for.
  public func delay(self : Sealing, now : Nat64, blockIsFull : Bool) : Nat64 {
    let latest = if blockIsFull now else now + pace(self).latest_ms * millisecond;
    Nat64.max(soonest self, latest) - now
  };

  /// Fixes the next block's prompts, if there are any.
  public func fix(queue : Admission.Admission, height : Nat64, firstId : Nat64) : ?Draft {
    let items = Admission.take(queue);
    if (items.size() == 0) return null;
    let leaves = Array.tabulate<Blob>(
      items.size(),
      func(i) {
        let { caller; kind; payload } = items[i];
        Chain.leaf({ id = firstId + Nat64.fromNat i; caller = Principal.toBlob caller; kind; payload })
      },
    );
    ?{ height; firstId; requests = items; leaves; requestRoot = Chain.requestRoot(leaves) }
  };
};
