/// The shape of every refusal: a stable code, what was expected, what came. Never a prompt or an answer.
import Error "mo:core/Error";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";

module {
  public type Refusal = { code : Text; expected : Text; got : Text };

  public func tooMany(code : Text, max : Nat, got : Nat) : Refusal = {
    code;
    expected = "at most " # Nat.toText(max);
    got = Nat.toText(got);
  };

  public let anonymous : Refusal = { code = "caller.anonymous"; expected = "a signed call"; got = "the anonymous caller" };

  public func notAllowed(who : Text, caller : Principal) : Refusal = {
    code = "caller.not_allowed";
    expected = who;
    got = Principal.toText(caller);
  };

  /// For calls that answer with a rejection, as the LLM canister's do.
  public func error(r : Refusal) : Error.Error = Error.reject(r.code # ": expected " # r.expected # ", got " # r.got);
};
