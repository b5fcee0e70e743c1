/// Which kind of call a message is, for those who may make it (`inspect`).
import Principal "mo:core/Principal";
import Chat "Chat";
import History "History";
import Interface "Interface";
import Limits "Limits";

module {
  public type Message = {
    #admission_refusal : () -> ();
    #answer_digest : () -> (Nat64, Nat64);
    #divergences : () -> (Nat64, Nat64);
    #get_entries : () -> Nat64;
    #get_headers : () -> (Nat64, Nat64);
    #get_slice : () -> (Nat64, Nat64);
    #limits : () -> ();
    #prove_answer : () -> Nat64;
    #report_answer : () -> History.Report;
    #reporters : () -> ();
    #seal_block : () -> ();
    #set_draining : () -> Bool;
    #set_history : () -> Nat64;
    #set_pace : () -> Interface.Pace;
    #set_reporters : () -> [Principal];
    #status : () -> ();
    #submit_chat : () -> Chat.Request;
    #submit_chat_notify : () -> (Chat.Request, Interface.Callback);
    #submit_sealed : () -> { payload : Blob };
    #take_answer : () -> Nat64;
    #v0_chat : () -> Chat.RequestV0;
    #v1_chat : () -> Chat.Request;
  };

  /// `#asking` takes a place in the queue, `#waiting` also holds a call open; `#owning` is a small question that a caller
  /// may want certified. Queries called as updates cost as updates do, so they are the operators'.
  public type Kind = { #asking; #waiting; #owning; #reporting; #operating; #controlling };

  public let smallBytesMax : Nat = 512;
  public func reportBytesMax() : Nat = Limits.answerBytesMax + Limits.receiptBytesMax + Limits.signatureBytesMax + 512;

  public func of(message : Message) : Kind = switch message {
    case (#submit_chat _ or #submit_sealed _ or #submit_chat_notify _) #asking;
    case (#v0_chat _ or #v1_chat _) #waiting;
    case (#take_answer _) #owning;
    case (#report_answer _) #reporting;
    case (#set_reporters _ or #set_history _ or #set_pace _ or #set_draining _) #controlling;
    case _ #operating;
  };

  public func isSigned(caller : Principal) : Bool = not Principal.isAnonymous caller;
};
