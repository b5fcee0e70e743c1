// The JavaScript agent, unmodified, against a devnet: node agent.mjs URL ROOT_KEY GATEWAY HELLO MODEL
//
// One line of JSON on standard output: what each identity got. Whatever goes wrong ends this with a status that is not 0.
import { Actor, CanisterStatus, HttpAgent } from '@icp-sdk/core/agent';
import { IDL } from '@icp-sdk/core/candid';
import { DelegationChain, DelegationIdentity, ECDSAKeyIdentity, Ed25519KeyIdentity } from '@icp-sdk/core/identity';
import { Secp256k1KeyIdentity } from '@icp-sdk/core/identity/secp256k1';
import { Principal } from '@icp-sdk/core/principal';

const [host, rootKey, gateway, hello, model] = process.argv.slice(2);
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'));
const position = IDL.Record({ height: IDL.Nat64, index: IDL.Nat64, id: IDL.Nat64 });
const refusal = IDL.Record({ code: IDL.Text, expected: IDL.Text, got: IDL.Text });
const message = IDL.Variant({ user: IDL.Record({ content: IDL.Text }) });
const answered = IDL.Record({ position, answer: IDL.Vec(IDL.Nat8), receipt: IDL.Vec(IDL.Nat8) });
const gatewayInterface = () => IDL.Service({
  submit_chat: IDL.Func(
    [IDL.Record({ model: IDL.Text, messages: IDL.Vec(message) })],
    [IDL.Variant({ ticket: IDL.Nat64, refused: refusal })], []),
  take_answer: IDL.Func(
    [IDL.Nat64],
    [IDL.Variant({ waiting: IDL.Null, ordered: position, answered, refused: refusal })], ['query']),
});
const helloInterface = () => IDL.Service({
  who: IDL.Func([], [IDL.Principal], []),
  greet: IDL.Func([], [IDL.Text], ['query']),
  fail: IDL.Func([], [], []),
});

async function agentOf(identity, key = bytes(rootKey)) {
  return HttpAgent.create({ host, identity, rootKey: key, verifyQuerySignatures: true });
}

async function refused(work) {
  try { await work(); } catch (error) { return `${error.name}: ${error.message}`; }
  throw new Error('was not refused');
}

async function answerOf(actor, words) {
  const submitted = await actor.submit_chat({ model, messages: [{ user: { content: words } }] });
  for (;;) {
    const taken = await actor.take_answer(submitted.ticket);
    if ('answered' in taken) return taken.answered;
    await new Promise((done) => setTimeout(done, 100));
  }
}

const ed25519 = Ed25519KeyIdentity.generate();
const session = Ed25519KeyIdentity.generate();
const soon = new Date(Date.now() + 60_000);
const chain = await DelegationChain.create(ed25519, session.getPublicKey(), soon, {
  targets: [Principal.fromText(hello)],
});
const delegated = DelegationIdentity.fromDelegation(session, chain);
const identities = {
  ed25519, secp256k1: Secp256k1KeyIdentity.generate(), 'p-256': await ECDSAKeyIdentity.generate(), delegated,
};
const told = {};
for (const [name, identity] of Object.entries(identities)) {
  const agent = await agentOf(identity);
  const actor = Actor.createActor(helloInterface, { agent, canisterId: hello });
  const status = await CanisterStatus.request({ agent, canisterId: hello, paths: ['time', 'module_hash', 'controllers'] });
  told[name] = {
    principal: identity.getPrincipal().toText(),
    who: (await actor.who()).toText(),                  // certified
    greeting: await actor.greet(),                      // signed by the node
    rejected: await refused(() => actor.fail()),
    module: status.get('module_hash'),
  };
}
// The same over the older call, which answers 202 and is polled by read_state.
const polling = await HttpAgent.create({ host, identity: ed25519, rootKey: bytes(rootKey) });
const submitted = await polling.call(hello, { methodName: 'who', arg: IDL.encode([], []), callSync: false });
told.version2 = { status: submitted.response.status };
const agent = await agentOf(identities.secp256k1);
const actor = Actor.createActor(gatewayInterface, { agent, canisterId: gateway });
const answer = await answerOf(actor, 'hello from the JavaScript agent');
told.gateway = { height: Number(answer.position.height), answer: answer.answer.length, receipt: answer.receipt.length };
// A delegation for one canister does not reach another; a root key of somebody else's believes nothing.
told.target = await refused(async () =>
  Actor.createActor(gatewayInterface, { agent: await agentOf(delegated), canisterId: gateway }).submit_chat(
    { model, messages: [{ user: { content: 'x' } }] }));
const other = bytes(rootKey);
other[other.length - 1] ^= 1;
told.wrongKey = await refused(async () =>
  Actor.createActor(helloInterface, { agent: await agentOf(ed25519, other), canisterId: hello }).who());
const mainnet = await HttpAgent.create({ host, identity: ed25519 });    // its built-in root key
told.mainnetKey = await refused(() => Actor.createActor(helloInterface, { agent: mainnet, canisterId: hello }).who());
console.log(JSON.stringify(told));
