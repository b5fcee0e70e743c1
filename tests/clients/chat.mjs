// The JavaScript agent, unmodified, with the chat calls that wait: node chat.mjs URL ROOT_KEY GATEWAY MODEL
//
// One line of JSON on standard output. Whatever goes wrong ends this with a status that is not 0.
import { Actor, HttpAgent, polling } from '@icp-sdk/core/agent';
import { IDL } from '@icp-sdk/core/candid';
import { DelegationChain, DelegationIdentity, Ed25519KeyIdentity } from '@icp-sdk/core/identity';
import { Secp256k1KeyIdentity } from '@icp-sdk/core/identity/secp256k1';
import { Principal } from '@icp-sdk/core/principal';

const [host, rootKey, gateway, model] = process.argv.slice(2);
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'));
const hex = (raw) => Buffer.from(raw).toString('hex');

// The LLM canister's types, as its clients are compiled against them.
const toolCall = IDL.Record({
  id: IDL.Text,
  function: IDL.Record({ name: IDL.Text, arguments: IDL.Vec(IDL.Record({ name: IDL.Text, value: IDL.Text })) }),
});
const assistant = IDL.Record({ content: IDL.Opt(IDL.Text), tool_calls: IDL.Vec(toolCall) });
const message = IDL.Variant({
  user: IDL.Record({ content: IDL.Text }),
  system: IDL.Record({ content: IDL.Text }),
  assistant,
  tool: IDL.Record({ content: IDL.Text, tool_call_id: IDL.Text }),
});
const property = IDL.Record({
  type: IDL.Text, name: IDL.Text, description: IDL.Opt(IDL.Text), enum: IDL.Opt(IDL.Vec(IDL.Text)),
});
const parameters = IDL.Record({
  type: IDL.Text, properties: IDL.Opt(IDL.Vec(property)), required: IDL.Opt(IDL.Vec(IDL.Text)),
});
const tool = IDL.Variant({
  function: IDL.Record({ name: IDL.Text, description: IDL.Opt(IDL.Text), parameters: IDL.Opt(parameters) }),
});
const requestV0 = IDL.Record({
  model: IDL.Text,
  messages: IDL.Vec(IDL.Record({
    role: IDL.Variant({ user: IDL.Null, assistant: IDL.Null, system: IDL.Null }), content: IDL.Text,
  })),
});
const oldRequest = IDL.Record({ model: IDL.Text, tools: IDL.Opt(IDL.Vec(tool)), messages: IDL.Vec(message) });
const oldReply = IDL.Record({ message: assistant });
// The same with what the gateway adds to them.
const sampling = IDL.Record({ max_tokens: IDL.Opt(IDL.Nat64), seed: IDL.Opt(IDL.Nat64) });
const request = IDL.Record({ model: IDL.Text, messages: IDL.Vec(message), sampling: IDL.Opt(sampling) });
const reply = IDL.Record({
  message: assistant,
  position: IDL.Record({ height: IDL.Nat64, index: IDL.Nat64, id: IDL.Nat64 }),
  receipt: IDL.Vec(IDL.Nat8),
  digest: IDL.Vec(IDL.Nat8),
  signatures: IDL.Vec(IDL.Record({ reporter: IDL.Principal, signature: IDL.Vec(IDL.Nat8) })),
});
const newService = () => IDL.Service({ v1_chat: IDL.Func([request], [reply], []) });
const oldService = () => IDL.Service({
  v0_chat: IDL.Func([requestV0], [IDL.Text], []),
  v1_chat: IDL.Func([oldRequest], [oldReply], []),
});

async function actorOf(service, identity) {
  const agent = await HttpAgent.create({ host, identity, rootKey: bytes(rootKey) });
  return Actor.createActor(service, { agent, canisterId: gateway });
}

async function refused(work) {
  try { await work(); } catch (error) { return `${error.name}: ${error.message}`; }
  throw new Error('was not refused');
}

const user = (content) => [{ user: { content } }];
const v0 = (content) => ({ model, messages: [{ role: { system: null }, content: 'Be short.' }, { role: { user: null }, content }] });
const old = (content) => ({ model, tools: [], messages: user(content) });
const plain = ({ message: said, position, receipt, digest, signatures }) => ({
  content: said.content,
  position: [position.height, position.index, position.id].map(Number),
  receipt: hex(receipt),
  digest: hex(digest),
  signatures: signatures.map(({ reporter, signature }) => [reporter.toText(), hex(signature)]),
});

const me = Ed25519KeyIdentity.generate();
const session = Ed25519KeyIdentity.generate();
const soon = new Date(Date.now() + 600_000);
const chain = await DelegationChain.create(me, session.getPublicKey(), soon, { targets: [Principal.fromText(gateway)] });
const delegated = DelegationIdentity.fromDelegation(session, chain);
const told = { principal: me.getPrincipal().toText() };

const mine = await actorOf(newService, me);
const mineOld = await actorOf(oldService, me);
told.v0 = await mineOld.v0_chat(v0('over v0'));
told.old = await mineOld.v1_chat(old('over an old v1'));
told.unsampled = plain(await mine.v1_chat({ model, messages: user('not sampled'), sampling: [] }));
told.sampled = plain(await mine.v1_chat({
  model, messages: user('sampled'), sampling: [{ max_tokens: [4n], seed: [7n] }],
}));
told.secp256k1 = await (await actorOf(oldService, Secp256k1KeyIdentity.generate())).v0_chat(v0('from secp256k1'));
told.delegated = plain(await (await actorOf(newService, delegated)).v1_chat({
  model, messages: user('by delegation'), sampling: [],
}));

// One reply read by a client of today and by an old one: submitted without waiting, found by read_state of its status.
const agent = await HttpAgent.create({ host, identity: me, rootKey: bytes(rootKey) });
const arg = IDL.encode([request], [{ model, messages: user('read twice'), sampling: [] }]);
const submitted = await agent.call(gateway, { methodName: 'v1_chat', arg, callSync: false });
const found = await polling.pollForResponse(agent, { canisterId: gateway }, submitted.requestId);
told.readTwice = {
  status: submitted.response.status,
  today: plain(IDL.decode([reply], found.reply)[0]),
  old: IDL.decode([oldReply], found.reply)[0],
};

told.otherModel = await refused(() => mineOld.v1_chat({ ...old('x'), model: 'somebody-elses' }));
told.noTokens = await refused(() => mine.v1_chat({ model, messages: user('x'), sampling: [{ max_tokens: [0n], seed: [] }] }));
const mainnet = await HttpAgent.create({ host, identity: me });    // its built-in root key
told.wrongKey = await refused(() => Actor.createActor(oldService, { agent: mainnet, canisterId: gateway }).v0_chat(v0('x')));
console.log(JSON.stringify(told));
