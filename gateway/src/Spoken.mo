/// An answer to a plain request as the LLM canister's message: its words, or the tools it calls (docs/spec/receipt.md T5).
import Blob "mo:core/Blob";
import List "mo:core/List";
import Text "mo:core/Text";
import CborRead "CborRead";
import Chat "Chat";
import Receipt "Receipt";
import Refusal "Refusal";

module {
  public type Spoken = { #message : Chat.AssistantMessage; #refused : Refusal.Refusal };

  let toolsAreCalled : Nat64 = 2;

  func argument(value : CborRead.Value) : ?{ name : Text; value : Text } {
    let #map fields = value else return null;
    let ?(#text name) = CborRead.field(fields, "name") else return null;
    let ?(#text text) = CborRead.field(fields, "value") else return null;
    ?{ name; value = text }
  };

  func toolCall(value : CborRead.Value) : ?Chat.ToolCall {
    let #map fields = value else return null;
    let ?(#text id) = CborRead.field(fields, "id") else return null;
    let ?(#map called) = CborRead.field(fields, "function") else return null;
    let ?(#text name) = CborRead.field(called, "name") else return null;
    let ?(#array values) = CborRead.field(called, "arguments") else return null;
    let arguments = List.empty<{ name : Text; value : Text }>();
    for (each in values.vals()) {
      let ?found = argument(each) else return null;
      List.add(arguments, found);
    };
    ?{ id; function = { name; arguments = List.toArray(arguments) } }
  };

  func calling(answer : Blob) : ?Chat.AssistantMessage {
    let ?(#map fields) = CborRead.decode(answer) else return null;
    let ?(#array values) = CborRead.field(fields, "tool_calls") else return null;
    let calls = List.empty<Chat.ToolCall>();
    for (each in values.vals()) {
      let ?call = toolCall(each) else return null;
      List.add(calls, call);
    };
    let content = switch (CborRead.field(fields, "content")) { case (?(#text words)) ?words; case _ null };
    ?{ content; tool_calls = List.toArray(calls) }
  };

  func unreadable(code : Text, expected : Text) : Spoken = #refused { code; expected; got = "other bytes" };

  /// A refusal of the cell comes out under the code in its receipt.
  public func of(answer : Blob, receipt : Blob) : Spoken {
    let ?read = Receipt.read(receipt) else return unreadable("receipt.form", "the body of a receipt");
    switch (read.finish) {
      case (#code code) #refused { code; expected = "a request that the cell answers"; got = "its refusal" };
      case (#word word) {
        if (word == toolsAreCalled) {
          let ?message = calling(answer) else return unreadable("answer.form", "a message that calls tools");
          return #message message;
        };
        let ?words = Text.decodeUtf8(answer) else return unreadable("answer.form", "UTF-8");
        #message { content = ?words; tool_calls = [] }
      };
    }
  };
};
