/// A client of the Internet Computer's LLM canister, written from the interface that it publishes. It knows nothing of
/// the gateway: the same calls go to either, by the id alone.
///
/// The id is that of the environment variable `PUBLIC_CANISTER_ID:llm`, as deployment tools set it, else the public one.
import List "mo:core/List";
import Nat "mo:core/Nat";
import Runtime "mo:core/Runtime";

module {
  public type Argument = { name : Text; value : Text };
  public type ToolCall = { id : Text; function : { name : Text; arguments : [Argument] } };
  public type AssistantMessage = { content : ?Text; tool_calls : [ToolCall] };
  public type Message = {
    #user : { content : Text };
    #system_ : { content : Text };
    #assistant : AssistantMessage;
    #tool : { content : Text; tool_call_id : Text };
  };
  public type Property = { type_ : Text; name : Text; description : ?Text; enum : ?[Text] };
  public type Tool = {
    #function : {
      name : Text;
      description : ?Text;
      parameters : ?{ type_ : Text; properties : ?[Property]; required : ?[Text] };
    };
  };
  public type Canister = actor {
    v0_chat : { model : Text; messages : [{ role : { #user; #assistant; #system_ }; content : Text }] } -> async Text;
    v1_chat : { model : Text; messages : [Message]; tools : ?[Tool] } -> async { message : AssistantMessage };
  };

  public let publicId : Text = "w36hm-eqaaa-aaaal-qr76a-cai";

  public func id<system>() : Text = switch (Runtime.envVar<system>("PUBLIC_CANISTER_ID:llm")) {
    case (?configured) configured;
    case null publicId;
  };

  public func canister<system>() : Canister = actor (id<system>());

  /// What an app runs when the model calls a tool.
  public type Run = ToolCall -> Text;

  let turnsMax : Nat = 8;

  /// Talks with the model until it has no more tools to call.
  public func converse(llm : Canister, model : Text, opening : [Message], tools : [Tool], run : Run) : async* Text {
    let messages = List.fromArray<Message>(opening);
    for (_ in Nat.range(0, turnsMax)) {
      let { message } = await llm.v1_chat({ model; messages = List.toArray messages; tools = ?tools });
      if (message.tool_calls.size() == 0) return switch (message.content) { case (?words) words; case null "" };
      List.add(messages, #assistant message);
      for (call in message.tool_calls.vals()) {
        List.add(messages, #tool { content = run call; tool_call_id = call.id });
      };
    };
    Runtime.trap("the model calls tools and comes to no end")
  };
};
