/// Who calls, as far as a principal shows it (the Internet Computer's forms of principals), and what each kind may have
/// on its way.
import Blob "mo:core/Blob";
import Nat8 "mo:core/Nat8";
import Principal "mo:core/Principal";
import Bounds "Bounds";

module {
  /// A canister's id: ten bytes, the last two 0x01.
  public func isCanister(caller : Principal) : Bool {
    let bytes = Blob.toArray(Principal.toBlob caller);
    bytes.size() == 10 and bytes[8] == 1 and bytes[9] == 1
  };

  public func queuedMax(caller : Principal, paid : Bool) : Nat {
    let free = if (isCanister caller) Bounds.queuedPerCanisterMax else Bounds.queuedPerPersonMax;
    if paid free * Bounds.paidFactor else free
  };

  public func openMax(caller : Principal, paid : Bool) : Nat {
    let free = if (isCanister caller) Bounds.openPerCanisterMax else Bounds.openPerPersonMax;
    if paid free * Bounds.paidFactor else free
  };
};
