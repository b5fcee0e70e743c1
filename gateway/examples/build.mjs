// Compiles the example apps: examples/NAME/src to examples/NAME/NAME.wasm and NAME.did.
//
//   node build.mjs           compile and write
//   node build.mjs --check   compile, write nothing, fail unless the same bytes are checked in
import { folder, make } from '../canister.mjs';

for (const name of ['adviser']) {
  const at = new URL(`./${name}/`, import.meta.url);
  make({ name, at, sources: folder(new URL('src/', at)) });
}
