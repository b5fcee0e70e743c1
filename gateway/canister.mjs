// How a canister of this project is compiled, and checked against what is checked in.
//
//   make({ name, at, sources })     at: URL of its folder; sources: file name -> URL of the Motoko source
//
// With --check on the command line nothing is written; it fails unless the same bytes are checked in. The compiler
// reads a virtual directory, so no path of this machine can reach the output. The "name" section (debugging names, an
// eighth of the module) is removed; nothing else is changed.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export function folder(url) {
  return Object.fromEntries(readdirSync(url).sort().map((file) => [file, new URL(file, url)]));
}

function compile(sources) {
  const motoko = require('motoko');
  motoko.loadPackage(require('motoko/packages/latest/core.json'));
  motoko.setPublicMetadata(['candid:service', 'candid:args', 'motoko:stable-types']);
  for (const [file, url] of Object.entries(sources)) motoko.write(file, readFileSync(url, 'utf8'));
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

export function make({ name, at, sources }) {
  const { wasm, did } = compile(sources);
  const digest = createHash('sha256').update(wasm).digest('hex');
  const outputs = {
    [`${name}.wasm`]: wasm,
    [`${name}.wasm.sha256`]: Buffer.from(`${digest}  ${name}.wasm\n`),
    [`${name}.did`]: Buffer.from(did),
  };
  if (process.argv.includes('--check')) {
    const stale = Object.entries(outputs).filter(([file, bytes]) => !bytes.equals(readFileSync(new URL(file, at))));
    for (const [file] of stale) console.error(`${name}/${file}: differs from what ${name}/src compiles to`);
    if (stale.length > 0) process.exit(1);
  } else {
    for (const [file, bytes] of Object.entries(outputs)) writeFileSync(new URL(file, at), bytes);
  }
  console.log(`${digest}  ${name}.wasm  ${wasm.length} bytes`);
}
