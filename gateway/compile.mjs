// Compiles one Motoko file with the pinned compiler: node compile.mjs IN.mo OUT.wasm
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';

const motoko = createRequire(import.meta.url)('motoko');
motoko.loadPackage(createRequire(import.meta.url)('motoko/packages/latest/core.json'));
const [source, target] = process.argv.slice(2);
motoko.write('Main.mo', readFileSync(source, 'utf8'));
const findings = motoko.check('Main.mo');
for (const { range, code, message } of findings) console.error(`${range.start.line + 1}: ${code}: ${message}`);
if (findings.length > 0) process.exit(1);
writeFileSync(target, motoko.wasm('Main.mo', 'ic').wasm);
