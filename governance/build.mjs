// Compiles governance/src to governance/governance.wasm and governance.did, with the gateway's compiler, its encoder
// and its digest.
//
//   node build.mjs           compile, write governance.wasm, governance.wasm.sha256 and governance.did
//   node build.mjs --check   compile, write nothing, fail unless the same bytes are checked in
import { folder, make } from '../gateway/canister.mjs';

const here = new URL('./', import.meta.url);
const shared = folder(new URL('../gateway/src/', here));
const { 'Cbor.mo': cbor, 'Sha256.mo': sha256 } = shared;
make({ name: 'governance', at: here, sources: { ...folder(new URL('src/', here)), 'Cbor.mo': cbor, 'Sha256.mo': sha256 } });
