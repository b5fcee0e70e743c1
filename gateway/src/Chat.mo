/// A chat request in the LLM canister's `v1_chat` shape with sampling fields, its limits, and its payload bytes.
///
/// The payload is fixed here, inside the canister, so that what is hashed into the chain does not depend on which
/// Candid encoder an app used.
import Array "mo:core/Array";
import Int64 "mo:core/Int64";
import List "mo:core/List";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Text "mo:core/Text";
import Cbor "Cbor";
import Limits "Limits";
import Refusal "Refusal";

module {
  public type ToolCall = {
    id : Text;
    function : { name : Text; arguments : [{ name : Text; value : Text }] };
  };
  public type AssistantMessage = { content : ?Text; tool_calls : [ToolCall] };
  public type Message = {
    #user : { content : Text };
    #system_ : { content : Text };
    #assistant : AssistantMessage;
    #tool : { content : Text; tool_call_id : Text };
  };
  public type Property = { type_ : Text; name : Text; description : ?Text; enum : ?[Text] };
  public type Parameters = { type_ : Text; properties : ?[Property]; required : ?[Text] };
  public type Tool = { #function : { name : Text; description : ?Text; parameters : ?Parameters } };
  public type Bias = { token : Nat64; bias_micro : Int64 };
  public type Sampling = {
    temperature_micro : ?Nat64;
    top_p_micro : ?Nat64;
    top_k : ?Nat64;
    max_tokens : ?Nat64;
    stop : ?[Text];
    seed : ?Nat64;
    min_p_micro : ?Nat64;
    repetition_penalty_micro : ?Nat64;
    presence_penalty_micro : ?Int64;
    frequency_penalty_micro : ?Int64;
    logit_bias : ?[Bias];
  };
  /// The words of an answer held to a form: any JSON, or JSON under a schema, which is JSON in text itself.
  public type ResponseFormat = { #text; #json_object; #json_schema : { name : Text; schema : Text } };
  public type Request = {
    model : Text;
    messages : [Message];
    tools : ?[Tool];
    sampling : ?Sampling;
    response_format : ?ResponseFormat;
  };

  /// What `v0_chat` takes.
  public type RequestV0 = { model : Text; messages : [{ role : { #user; #assistant; #system_ }; content : Text }] };

  // Kinds of payload (order.md O1).
  public let plain : Nat64 = 0;
  public let isSealed : Nat64 = 1;

  type Entry = (Text, Cbor.Value);
  type Fields = List.List<Entry>;

  func texts(items : [Text]) : Cbor.Value = #array(Array.map<Text, Cbor.Value>(items, func(t) = #text t));

  func putText(fields : Fields, key : Text, value : ?Text) {
    switch value { case (?t) List.add<Entry>(fields, (key, #text t)); case null {} };
  };

  func putUint(fields : Fields, key : Text, value : ?Nat64) {
    switch value { case (?n) List.add<Entry>(fields, (key, #uint n)); case null {} };
  };

  func putInt(fields : Fields, key : Text, value : ?Int64) {
    switch value { case (?n) List.add<Entry>(fields, (key, #int n)); case null {} };
  };

  func bias(b : Bias) : Cbor.Value = #array([#uint(b.token), #int(b.bias_micro)]);

  func putTexts(fields : Fields, key : Text, value : ?[Text]) {
    switch value { case (?items) List.add<Entry>(fields, (key, texts items)); case null {} };
  };

  func map(fields : Fields) : Cbor.Value = #map(List.toArray(fields));

  func toolCall(call : ToolCall) : Cbor.Value {
    let arguments = Array.map<{ name : Text; value : Text }, Cbor.Value>(
      call.function.arguments,
      func(a) = #map([("name", #text(a.name)), ("value", #text(a.value))]),
    );
    #map([
      ("id", #text(call.id)),
      ("function", #map([("name", #text(call.function.name)), ("arguments", #array arguments)])),
    ])
  };

  func message(m : Message) : Cbor.Value = switch m {
    case (#user { content }) #map([("role", #text "user"), ("content", #text content)]);
    case (#system_ { content }) #map([("role", #text "system"), ("content", #text content)]);
    case (#tool { content; tool_call_id }) {
      #map([("role", #text "tool"), ("content", #text content), ("tool_call_id", #text tool_call_id)])
    };
    case (#assistant { content; tool_calls }) {
      let fields = List.fromArray<Entry>([("role", #text "assistant")]);
      putText(fields, "content", content);
      List.add<Entry>(fields, ("tool_calls", #array(Array.map<ToolCall, Cbor.Value>(tool_calls, toolCall))));
      map(fields)
    };
  };

  func property(p : Property) : Cbor.Value {
    let fields = List.fromArray<Entry>([("type", #text(p.type_)), ("name", #text(p.name))]);
    putText(fields, "description", p.description);
    putTexts(fields, "enum", p.enum);
    map(fields)
  };

  func parameters(p : Parameters) : Cbor.Value {
    let fields = List.fromArray<Entry>([("type", #text(p.type_))]);
    switch (p.properties) {
      case (?items) List.add<Entry>(fields, ("properties", #array(Array.map<Property, Cbor.Value>(items, property))));
      case null {};
    };
    putTexts(fields, "required", p.required);
    map(fields)
  };

  func tool(#function f : Tool) : Cbor.Value {
    let fields = List.fromArray<Entry>([("name", #text(f.name))]);
    putText(fields, "description", f.description);
    switch (f.parameters) {
      case (?p) List.add<Entry>(fields, ("parameters", parameters p));
      case null {};
    };
    map(fields)
  };

  func sampling(s : Sampling) : Cbor.Value {
    let fields = List.empty<Entry>();
    putUint(fields, "temperature_micro", s.temperature_micro);
    putUint(fields, "top_p_micro", s.top_p_micro);
    putUint(fields, "top_k", s.top_k);
    putUint(fields, "max_tokens", s.max_tokens);
    putTexts(fields, "stop", s.stop);
    putUint(fields, "seed", s.seed);
    putUint(fields, "min_p_micro", s.min_p_micro);
    putUint(fields, "repetition_penalty_micro", s.repetition_penalty_micro);
    putInt(fields, "presence_penalty_micro", s.presence_penalty_micro);
    putInt(fields, "frequency_penalty_micro", s.frequency_penalty_micro);
    switch (s.logit_bias) {
      case (?biases) List.add<Entry>(fields, ("logit_bias", #array(Array.map<Bias, Cbor.Value>(biases, bias))));
      case null {};
    };
    map(fields)
  };

  func responseFormat(format : ResponseFormat) : Cbor.Value = switch format {
    case (#text) #map([("type", #text "text")]);
    case (#json_object) #map([("type", #text "json_object")]);
    case (#json_schema { name; schema }) {
      #map([("type", #text "json_schema"), ("name", #text name), ("schema", #text schema)])
    };
  };

  public func ofV0(r : RequestV0) : Request = {
    model = r.model;
    messages = Array.map<{ role : { #user; #assistant; #system_ }; content : Text }, Message>(
      r.messages,
      func({ role; content }) = switch role {
        case (#user) #user { content };
        case (#system_) #system_ { content };
        case (#assistant) #assistant { content = ?content; tool_calls = [] };
      },
    );
    tools = null;
    sampling = null;
    response_format = null;
  };

  public func payload(r : Request) : Blob {
    let fields = List.fromArray<Entry>([
      ("model", #text(r.model)),
      ("messages", #array(Array.map<Message, Cbor.Value>(r.messages, message))),
    ]);
    switch (r.tools) {
      case (?tools) List.add<Entry>(fields, ("tools", #array(Array.map<Tool, Cbor.Value>(tools, tool))));
      case null {};
    };
    switch (r.sampling) { case (?s) List.add<Entry>(fields, ("sampling", sampling s)); case null {} };
    switch (r.response_format) {
      case (?format) List.add<Entry>(fields, ("response_format", responseFormat format));
      case null {};
    };
    Cbor.encode(map(fields))
  };

  func between(code : Text, value : ?Nat64, min : Nat64, max : Nat64) : ?Refusal.Refusal = switch value {
    case (?n) {
      if (n >= min and n <= max) null else ?{
        code;
        expected = Nat64.toText(min) # " to " # Nat64.toText(max);
        got = Nat64.toText(n);
      }
    };
    case null null;
  };

  func within(code : Text, value : ?Int64, most : Int64) : ?Refusal.Refusal = switch value {
    case (?n) {
      if (n >= -most and n <= most) null else ?{
        code;
        expected = Int64.toText(-most) # " to " # Int64.toText(most);
        got = Int64.toText(n);
      }
    };
    case null null;
  };

  func refuseSampling(s : Sampling) : ?Refusal.Refusal {
    let ranges = [
      between("sampling.temperature_micro", s.temperature_micro, 0, Limits.temperatureMicroMax),
      between("sampling.top_p_micro", s.top_p_micro, 1, Limits.topPMicroMax),
      between("sampling.top_k", s.top_k, 1, Limits.topKMax),
      between("sampling.max_tokens", s.max_tokens, 1, Limits.tokensMax),
      between("sampling.min_p_micro", s.min_p_micro, 0, Limits.minPMicroMax),
      between(
        "sampling.repetition_penalty_micro",
        s.repetition_penalty_micro,
        Limits.repetitionPenaltyMicroMin,
        Limits.repetitionPenaltyMicroMax,
      ),
      within("sampling.presence_penalty_micro", s.presence_penalty_micro, Limits.penaltyMicroMax),
      within("sampling.frequency_penalty_micro", s.frequency_penalty_micro, Limits.penaltyMicroMax),
    ];
    for (refusal in ranges.vals()) if (refusal != null) return refusal;
    switch (s.stop) {
      case (?stops) {
        if (stops.size() > Limits.stopsMax) return ?Refusal.tooMany("sampling.stop", Limits.stopsMax, stops.size());
        for (stop in stops.vals()) {
          let bytes = Text.encodeUtf8(stop).size();
          if (bytes == 0) return ?{ code = "sampling.stop_empty"; expected = "at least 1 byte"; got = "0" };
          if (bytes > Limits.stopBytesMax) return ?Refusal.tooMany("sampling.stop_bytes", Limits.stopBytesMax, bytes);
        };
      };
      case null {};
    };
    switch (s.logit_bias) { case (?biases) refuseBiases(biases); case null null }
  };

  func refuseBiases(biases : [Bias]) : ?Refusal.Refusal {
    if (biases.size() > Limits.logitBiasesMax) {
      return ?Refusal.tooMany("sampling.logit_bias", Limits.logitBiasesMax, biases.size());
    };
    var next : Nat64 = 0;
    for ({ token; bias_micro } in biases.vals()) {
      if (token < next) return ?{ code = "sampling.logit_bias_order"; expected = "tokens ascending"; got = "another order" };
      let refusal = switch (between("sampling.logit_bias_token", ?token, 0, Limits.biasedTokenMax)) {
        case null within("sampling.logit_bias_micro", ?bias_micro, Limits.logitBiasMicroMax);
        case found found;
      };
      if (refusal != null) return refusal;
      next := token + 1;
    };
    null
  };

  // order.md O11: printable ASCII without a space.
  func refuseModel(model : Text) : ?Refusal.Refusal {
    let size = model.size();
    if (size == 0) return ?{ code = "request.model_empty"; expected = "a model name"; got = "0 bytes" };
    if (size > Limits.modelBytesMax) return ?Refusal.tooMany("request.model_bytes", Limits.modelBytesMax, size);
    for (c in model.chars()) {
      if (c < '!' or c > '~') return ?{
        code = "request.model_characters";
        expected = "printable ASCII without a space";
        got = "another character";
      };
    };
    null
  };

  /// The longest of a tool's lists: its properties, its required names, the values of one enum.
  func propertiesOf(#function f : Tool) : Nat {
    let ?p = f.parameters else return 0;
    var most = switch (p.required) { case (?names) names.size(); case null 0 };
    let ?properties = p.properties else return most;
    most := Nat.max(most, properties.size());
    for (each in properties.vals()) {
      switch (each.enum) { case (?values) { most := Nat.max(most, values.size()) }; case null {} };
    };
    most
  };

  /// Why this request is not taken, or null. The size of the payload is checked once it is encoded.
  public func refuse(r : Request) : ?Refusal.Refusal {
    switch (refuseModel(r.model)) { case (?refusal) return ?refusal; case null {} };
    let messages = r.messages.size();
    if (messages == 0) return ?{ code = "request.messages_empty"; expected = "at least 1"; got = "0" };
    if (messages > Limits.messagesMax) return ?Refusal.tooMany("request.messages", Limits.messagesMax, messages);
    for (m in r.messages.vals()) {
      switch m {
        case (#assistant { tool_calls }) {
          let calls = tool_calls.size();
          if (calls > Limits.toolCallsMax) return ?Refusal.tooMany("request.tool_calls", Limits.toolCallsMax, calls);
          for (call in tool_calls.vals()) {
            let arguments = call.function.arguments.size();
            if (arguments > Limits.argumentsMax) {
              return ?Refusal.tooMany("request.arguments", Limits.argumentsMax, arguments);
            };
          };
        };
        case _ {};
      };
    };
    switch (r.tools) {
      case (?tools) {
        if (tools.size() > Limits.toolsMax) return ?Refusal.tooMany("request.tools", Limits.toolsMax, tools.size());
        for (tool in tools.vals()) {
          let most = propertiesOf tool;
          if (most > Limits.propertiesMax) return ?Refusal.tooMany("request.properties", Limits.propertiesMax, most);
        };
      };
      case null {};
    };
    switch (r.sampling) { case (?s) refuseSampling(s); case null null }
  };
};
