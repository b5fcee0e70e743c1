// Compiles gateway/src to gateway/gateway.wasm and gateway/gateway.did.
//
//   node build.mjs           compile, write gateway.wasm, gateway.wasm.sha256 and gateway.did
//   node build.mjs --check   compile, write nothing, fail unless the same bytes are checked in
//
// The compiler reads a virtual directory, so no path of this machine can reach the output. The "name" section
// (debugging names, an eighth of the module) is removed; nothing else is changed.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const here = new URL('./', import.meta.url);

function compile() {
  const motoko = require('motoko');
  motoko.loadPackage(require('motoko/packages/latest/core.json'));
  motoko.setPublicMetadata(['candid:service', 'candid:args', 'motoko:stable-types']);
  for (const name of readdirSync(new URL('src/', here)).sort()) {
    motoko.write(name, readFileSync(new URL(`src/${name}`, here), 'utf8'));
  }
  const findings = motoko.check('Main.mo');
  for (const { source, range, severity, code, message } of findings) {
    const level = severity === 1 ? 'error' : 'warning';
    console.error(`src/${source}:${range.start.line + 1}:${range.start.character + 1}: ${level} ${code}: ${message}`);
  }
  if (findings.length > 0) process.exit(1);
  const { wasm } = motoko.wasm('Main.mo', 'ic');
  return { wasm: withoutNames(Buffer.from(wasm)), did: motoko.candid('Main.mo') };
}

function unsigned(bytes, start) {
  let value = 0;
  for (let at = start, scale = 1; ; at += 1, scale *= 128) {
    value += (bytes[at] & 0x7f) * scale;
    if (bytes[at] < 0x80) return [value, at + 1];
  }
}

function withoutNames(module) {
  const kept = [module.subarray(0, 8)];
  for (let at = 8; at < module.length; ) {
    const [size, body] = unsigned(module, at + 1);
    const [length, name] = unsigned(module, body);
    const custom = module[at] === 0 && module.toString('utf8', name, name + length);
    if (custom !== 'name') kept.push(module.subarray(at, body + size));
    at = body + size;
  }
  return Buffer.concat(kept);
}

function main() {
  const { wasm, did } = compile();
  const digest = createHash('sha256').update(wasm).digest('hex');
  const outputs = {
    'gateway.wasm': wasm,
    'gateway.wasm.sha256': Buffer.from(`${digest}  gateway.wasm\n`),
    'gateway.did': Buffer.from(did),
  };
  if (process.argv.includes('--check')) {
    const stale = Object.entries(outputs).filter(([name, bytes]) => !bytes.equals(readFileSync(new URL(name, here))));
    for (const [name] of stale) console.error(`gateway/${name}: differs from what gateway/src compiles to`);
    if (stale.length > 0) process.exit(1);
  } else {
    for (const [name, bytes] of Object.entries(outputs)) writeFileSync(new URL(name, here), bytes);
  }
  console.log(`${digest}  gateway.wasm  ${wasm.length} bytes`);
}

main();
