// A second opinion on our Candid: reads with the SDK's own decoder and, where there is one, the SNS's own interface.
//
//   node candid.mjs < cases.json        [{ "of": "payload" | "manage_neuron" | "get_proposal", "hex": "…" }, …]
//
// Prints what each decodes to, numbers as decimal texts and bytes in hexadecimal, and one SNS reply that it encoded.
import { readFileSync } from 'node:fs';
import { IDL } from '@icp-sdk/core/candid';
import { idlFactory } from './node_modules/@icp-sdk/canisters/declarations/sns/governance.idl.js';

const sns = idlFactory({ IDL });
const method = (name) => sns._fields.find(([each]) => each === name)[1];

const action = IDL.Variant({
  adopt: IDL.Record({ manifest: IDL.Text }),
  withdraw: IDL.Record({ version: IDL.Text, manifest: IDL.Vec(IDL.Nat8), reason: IDL.Text }),
  revoke_chips: IDL.Record({ chips: IDL.Vec(IDL.Vec(IDL.Nat8)), reason: IDL.Text }),
  rotate_key: IDL.Record({ resource: IDL.Text, least_version: IDL.Nat64, reason: IDL.Text }),
  amend_charter: IDL.Record({ charter: IDL.Text }),
});
const types = {
  payload: IDL.Record({ format: IDL.Nat64, position: IDL.Nat64, previous: IDL.Vec(IDL.Nat8), action }),
  manage_neuron: method('manage_neuron').argTypes[0],
  get_proposal: method('get_proposal').argTypes[0],
};

function plain(value) {
  if (typeof value === 'bigint' || typeof value === 'number') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
  }
  return value;
}

// Everything an SNS says of a proposal besides what we read: all of it must be read over.
function reply(payload) {
  const seconds = 1_700_000_000n;
  const tally = [{ timestamp_seconds: seconds, yes: 7n, no: 1n, total: 9n }];
  const data = {
    id: [{ id: 42n }], payload_text_rendering: ['a step'], action: 1_000n, failure_reason: [], action_auxiliary: [],
    ballots: [['00ff', { vote: 1, cast_timestamp_seconds: seconds, voting_power: 7n }]],
    minimum_yes_proportion_of_total: [{ basis_points: [300n] }], reward_event_round: 0n, failed_timestamp_seconds: 0n,
    reward_event_end_timestamp_seconds: [], proposal_creation_timestamp_seconds: seconds,
    initial_voting_period_seconds: 345_600n, reject_cost_e8s: 100_000_000n, latest_tally: tally,
    wait_for_quiet_deadline_increase_seconds: 86_400n, decided_timestamp_seconds: seconds,
    proposal: [{
      url: '', title: 'a title', summary: 'a summary',
      action: [{ ExecuteGenericNervousSystemFunction: { function_id: 1_000n, payload } }],
    }],
    proposer: [{ id: new Uint8Array(32) }], wait_for_quiet_state: [{ current_deadline_timestamp_seconds: seconds }],
    minimum_yes_proportion_of_exercised: [{ basis_points: [5_000n] }], is_eligible_for_rewards: true,
    executed_timestamp_seconds: seconds, topic: [],
  };
  return IDL.encode(method('get_proposal').retTypes, [{ result: [{ Proposal: data }] }]);
}

const cases = JSON.parse(readFileSync(0, 'utf8'));
const decoded = cases.map(({ of, hex }) => plain(IDL.decode([types[of]], Uint8Array.from(Buffer.from(hex, 'hex')))[0]));
const hex = Buffer.from(reply(Uint8Array.from(Buffer.from('anchorhold')))).toString('hex');
console.log(JSON.stringify({ decoded, reply: hex }));
