/// A governance canister for a devnet: proposals, votes, execution, in the Candid of an SNS governance canister, so that
/// what is submitted here can be submitted there. Voting is one voice per listed neuron and a plain majority; there are
/// no tokens, no rewards and no deadline. What executes is the step of a release history (docs/spec/governance.md).
import Array "mo:core/Array";
import Blob "mo:core/Blob";
import Int "mo:core/Int";
import List "mo:core/List";
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Nat64 "mo:core/Nat64";
import Principal "mo:core/Principal";
import Time "mo:core/Time";
import Steps "Steps";

persistent actor class Governance(init : {
  authority : Blob; // the digest of the authority document that names this canister
  function : Nat64; // the generic function under which a step executes
  neurons : [{ subaccount : Blob; controller : Principal }];
}) {
  type ProposalId = { id : Nat64 };
  type GovernanceError = { error_message : Text; error_type : Int32 };
  type Action = {
    #ExecuteGenericNervousSystemFunction : { function_id : Nat64; payload : Blob };
    #Motion : { motion_text : Text };
  };
  type Proposal = { title : Text; url : Text; summary : Text; action : ?Action };
  type Tally = { timestamp_seconds : Nat64; yes : Nat64; no : Nat64; total : Nat64 };
  type ProposalData = {
    id : ?ProposalId;
    proposal : ?Proposal;
    payload_text_rendering : ?Text;
    latest_tally : ?Tally;
    proposal_creation_timestamp_seconds : Nat64;
    decided_timestamp_seconds : Nat64;
    executed_timestamp_seconds : Nat64;
    failed_timestamp_seconds : Nat64;
    failure_reason : ?GovernanceError;
  };
  type Command = { #MakeProposal : Proposal; #RegisterVote : { vote : Int32; proposal : ?ProposalId } };
  type ManageNeuron = { subaccount : Blob; command : ?Command };
  type Answer = { #Error : GovernanceError; #MakeProposal : { proposal_id : ?ProposalId }; #RegisterVote : {} };

  type Ballot = { neuron : Blob; yes : Bool };
  type Held = { proposal : Proposal; step : ?Steps.Step; created : Nat64; ballots : List.List<Ballot>; var outcome : Outcome };
  type Outcome = { #open; #rejected : Nat64; #executed : Nat64; #failed : (Nat64, Text) };

  let openMax : Nat = 64;
  let proposalsMax : Nat = 4_096;
  let textBytesMax : Nat = 30_000; // of a summary, as an SNS has it
  let payloadBytesMax : Nat = 70_000;

  let authority = init.authority;
  let function = init.function;
  let neurons = init.neurons;
  let proposals = Map.empty<Nat64, Held>();
  var created : Nat64 = 0;
  var open : Nat = 0;
  var head : Blob = Steps.genesis(authority);
  var position : Nat64 = 0;

  func now() : Nat64 = Nat64.fromNat(Int.abs(Time.now()) / 1_000_000_000);

  func refused(kind : Int32, message : Text) : Answer = #Error { error_type = kind; error_message = message };

  func make(proposal : Proposal) : Answer {
    if (open >= openMax or Map.size(proposals) >= proposalsMax) return refused(10, "too many proposals");
    if (proposal.summary.size() > textBytesMax or proposal.title.size() > 256) return refused(3, "a text is too long");
    let step : ?Steps.Step = switch (proposal.action) {
      case (?#ExecuteGenericNervousSystemFunction { function_id; payload }) {
        if (function_id != function) return refused(3, "no such generic function");
        if (payload.size() > payloadBytesMax) return refused(3, "the payload is too long");
        let ?step = Steps.parse(payload) else return refused(3, "the payload is no step of a release history");
        ?step
      };
      case (?#Motion _) null;
      case null return refused(3, "a proposal has an action");
    };
    created += 1;
    open += 1;
    let ballots = List.empty<Ballot>();
    Map.add(proposals, Nat64.compare, created, { proposal; step; created = now(); ballots; var outcome = #open : Outcome });
    #MakeProposal { proposal_id = ?{ id = created } }
  };

  func vote(neuron : Blob, yes : Bool, proposal : ?ProposalId) : Answer {
    let ?{ id } = proposal else return refused(5, "no proposal named");
    let ?held = Map.get(proposals, Nat64.compare, id) else return refused(5, "no such proposal");
    if (held.outcome != #open) return refused(3, "the proposal is decided");
    if (List.any<Ballot>(held.ballots, func(ballot) = ballot.neuron == neuron)) return refused(19, "this neuron has voted");
    List.add(held.ballots, { neuron; yes });
    let { yes = for_; no } = count(held);
    if (2 * for_ > neurons.size()) {
      open -= 1;
      held.outcome := execute(held.step);
    } else if (2 * no >= neurons.size()) {
      open -= 1;
      held.outcome := #rejected(now());
    };
    #RegisterVote {}
  };

  func count(held : Held) : { yes : Nat; no : Nat } {
    let yes = List.size(List.filter<Ballot>(held.ballots, func(ballot) = ballot.yes));
    { yes; no = List.size(held.ballots) - yes : Nat }
  };

  // A step that does not follow the newest one fails here, and would be refused by every broker as well.
  func execute(step : ?Steps.Step) : Outcome {
    let ?next = step else return #executed(now());
    if (next.position != position + 1 or next.previous != head) {
      return #failed(now(), "the step does not follow decision " # Nat64.toText(position));
    };
    position := next.position;
    head := Steps.digest(authority, next.payload);
    #executed(now())
  };

  public shared ({ caller }) func manage_neuron(request : ManageNeuron) : async { command : ?Answer } {
    let { subaccount; command } = request;
    let owned = Array.any<{ subaccount : Blob; controller : Principal }>(
      neurons, func(neuron) = neuron.subaccount == subaccount and neuron.controller == caller
    );
    let answer = if (not owned) refused(2, "no neuron of this caller") else switch command {
      case (?#MakeProposal proposal) make(proposal);
      case (?#RegisterVote { vote = 1; proposal }) vote(subaccount, true, proposal);
      case (?#RegisterVote { vote = 2; proposal }) vote(subaccount, false, proposal);
      case _ refused(3, "no command, or a vote that is neither 1 nor 2");
    };
    { command = ?answer }
  };

  public query func get_proposal(request : { proposal_id : ?ProposalId }) : async {
    result : ?{ #Error : GovernanceError; #Proposal : ProposalData };
  } {
    let ?{ id } = request.proposal_id else return { result = ?#Error { error_type = 5; error_message = "no proposal named" } };
    let ?held = Map.get(proposals, Nat64.compare, id) else {
      return { result = ?#Error { error_type = 5; error_message = "no such proposal" } };
    };
    { result = ?#Proposal(shown(id, held)) }
  };

  func shown(id : Nat64, held : Held) : ProposalData {
    let { yes; no } = count(held);
    let (decided, executed, failed, reason) : (Nat64, Nat64, Nat64, ?GovernanceError) = switch (held.outcome) {
      case (#open) (0, 0, 0, null);
      case (#rejected at) (at, 0, 0, null);
      case (#executed at) (at, at, 0, null);
      case (#failed(at, why)) (at, 0, at, ?{ error_type = 12; error_message = why });
    };
    {
      id = ?{ id };
      proposal = ?held.proposal;
      payload_text_rendering = switch (held.step) {
        case (?step) ?("decision " # Nat64.toText(step.position) # " of a release history");
        case null null;
      };
      latest_tally = ?{
        timestamp_seconds = now();
        yes = Nat64.fromNat(yes);
        no = Nat64.fromNat(no);
        total = Nat64.fromNat(neurons.size());
      };
      proposal_creation_timestamp_seconds = held.created;
      decided_timestamp_seconds = decided;
      executed_timestamp_seconds = executed;
      failed_timestamp_seconds = failed;
      failure_reason = reason;
    }
  };

  public query func history() : async { position : Nat64; head : Blob } { { position; head } };
};
