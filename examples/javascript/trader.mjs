// A new account that gets money and pays some back, against a testnet: node trader.mjs http://127.0.0.1:9480
// The testnet's keys are published, so that this program can play the issuer too; its seed can be given as hex.

import { createHash } from "node:crypto";
import nacl from "tweetnacl";
import { hex, sign, unhex } from "./transaction.mjs";

const [url, issuerSeed] = process.argv.slice(2);
if (!url) throw new Error("usage: trader.mjs URL [ISSUER'S SEED]");
const DEPOSIT = 2;
const TRANSFER = 1;
const THB = 1_000_000n;

async function ask(path, options) {
  const answer = await fetch(`${url}/api/v1${path}`, options);
  const found = await answer.json();
  if (!answer.ok && answer.status !== 404) throw new Error(`${found.code}: ${found.detail} (${found.what_to_do})`);
  return answer.ok ? found : null;
}

async function send(keys, operations) {
  const status = await ask("/status");
  const balance = await ask(`/accounts/${hex(keys.publicKey)}/balance`);
  const { raw, id } = sign(keys, unhex(status.chain_id), {
    nonce: balance?.nonce ?? 0, validUntilHeight: status.height + 600, fee: 1_000 * operations.length, operations });
  const state = await ask("/transactions?wait_ms=30000", {
    method: "POST", headers: { "content-type": "application/cbor" }, body: raw });
  if (state.id !== id) throw new Error(`the node calls it ${state.id}, this program ${id}`);
  if (state.state !== "final" || state.code) throw new Error(`${state.state}: ${state.reason ?? state.code_name}`);
  console.log(`${state.operations.map((operation) => operation.name).join(", ")}: final in block ${state.height}`);
}

const seed = issuerSeed ? unhex(issuerSeed)
  : createHash("sha256").update("gridtokenx testnet, not secret: issuer").digest();
const issuer = nacl.sign.keyPair.fromSeed(Uint8Array.from(seed));
const mine = nacl.sign.keyPair();
await send(issuer, [[DEPOSIT, mine.publicKey, 100n * THB, new TextEncoder().encode("over the counter")]]);
await send(mine, [[TRANSFER, issuer.publicKey, 30n * THB, new Uint8Array()]]);
const { address, balance_thb: left } = await ask(`/accounts/${hex(mine.publicKey)}/balance`);
console.log(`${address} has ${left} THB left`);
