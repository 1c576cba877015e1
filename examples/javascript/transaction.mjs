// A signed transaction from the description in docs/ledger.md. The key never leaves this program.

import { createHash } from "node:crypto";
import nacl from "tweetnacl";
import { encode } from "./cbor.mjs";

const SIGNED = 0x03; // what is signed begins with this byte, then the chain's id
const ID = 0x02;

const joined = (...arrays) => Uint8Array.from(arrays.flatMap((array) => [...array]));
export const hex = (bytes) => Buffer.from(bytes).toString("hex");
export const unhex = (text) => Uint8Array.from(Buffer.from(text, "hex"));

// `keys` from nacl.sign.keyPair; operations are [kind, field, ...].
export function sign(keys, chainId, { nonce, validUntilHeight, fee, operations }) {
  const payload = encode([1, keys.publicKey, nonce, validUntilHeight, fee, 0, operations]);
  const signature = nacl.sign.detached(joined([SIGNED], chainId, payload), keys.secretKey);
  const raw = encode([payload, [[keys.publicKey, signature]]]);
  return { raw, id: createHash("sha256").update(joined([ID], raw)).digest("hex") };
}
