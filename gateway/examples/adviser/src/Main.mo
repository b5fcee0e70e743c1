/// An app on the LLM canister's interface: it says what to wear, and looks the weather up with a tool. `ask` and `advise`
/// would run unchanged against the public LLM canister; `order` and `told` use what only the gateway has.
import Array "mo:core/Array";
import Error "mo:core/Error";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Llm "Llm";

persistent actor Adviser {
  let model = "little-anchorite-1";

  let weather : Llm.Tool = #function {
    name = "weather";
    description = ?"The weather in a city.";
    parameters = ?{
      type_ = "object";
      properties = ?[{ type_ = "string"; name = "city"; description = null; enum = null }];
      required = ?["city"];
    };
  };

  func lookUp(call : Llm.ToolCall) : Text {
    let city = Array.find<Llm.Argument>(call.function.arguments, func(a) = a.name == "city");
    switch (call.function.name, city) {
      case ("weather", ?{ value = "Bern" }) "rain";
      case ("weather", ?_) "sun";
      case _ "no such tool";
    }
  };

  /// One question, one answer.
  public func ask(question : Text) : async Text {
    await Llm.canister<system>().v0_chat({ model; messages = [{ role = #user; content = question }] })
  };

  /// With a tool. What the LLM canister rejects comes out as text.
  public func advise(city : Text) : async Text {
    let opening : [Llm.Message] = [
      #system_ { content = "Say in one sentence what to wear." },
      #user { content = city },
    ];
    try { await* Llm.converse(Llm.canister<system>(), model, opening, [weather], lookUp) } catch (e) { Error.message e }
  };

  // ---- the gateway's own: no call stays open, the answer comes as a call

  type Request = { model : Text; messages : [Llm.Message]; tools : ?[Llm.Tool] };
  type Refusal = { code : Text; expected : Text; got : Text };
  type Outcome = {
    #answered : { message : Llm.AssistantMessage; position : { height : Nat64; index : Nat64; id : Nat64 } };
    #refused : Refusal;
  };
  type Notification = { ticket : Nat64; outcome : Outcome };
  type Gateway = actor {
    submit_chat_notify : (Request, shared Notification -> ()) -> async { #ticket : Nat64; #refused : Refusal };
  };

  type Heard = { ticket : Nat64; words : Text };
  var heard : [Heard] = [];

  public func order(question : Text) : async Text {
    let gateway : Gateway = actor (Llm.id<system>());
    let request = { model; messages = [#user { content = question }]; tools = null };
    switch (await gateway.submit_chat_notify(request, told)) {
      case (#ticket number) "ticket " # Nat64.toText number;
      case (#refused { code }) code;
    }
  };

  /// The gateway's call. Anybody may make one, so the app looks at who it is.
  public shared ({ caller }) func told({ ticket; outcome } : Notification) : () {
    if (Principal.toText caller != Llm.id<system>()) return;
    let words = switch outcome {
      case (#answered { message = { content = ?words } }) words;
      case (#answered _) "";
      case (#refused { code }) code;
    };
    heard := Array.concat(heard, [{ ticket; words }]);
  };

  public query func answers() : async [Heard] { heard };
};
