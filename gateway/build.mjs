// Compiles gateway/src to gateway/gateway.wasm and gateway/gateway.did.
//
//   node build.mjs           compile, write gateway.wasm, gateway.wasm.sha256 and gateway.did
//   node build.mjs --check   compile, write nothing, fail unless the same bytes are checked in
import { folder, make } from './canister.mjs';

const here = new URL('./', import.meta.url);
make({ name: 'gateway', at: here, sources: folder(new URL('src/', here)) });
