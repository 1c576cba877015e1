// Canonical CBOR (RFC 8949 4.2.1) as far as transactions need it: integers, byte strings, texts, arrays.
// docs/ledger.md has the fields. Amounts can pass 2^53, so integers may be BigInt.

function head(major, value) {
  const number = BigInt(value);
  if (number < 24n) return [Number((BigInt(major) << 5n) | number)];
  const bytes = number < 1n << 8n ? 1 : number < 1n << 16n ? 2 : number < 1n << 32n ? 4 : 8;
  const found = [(major << 5) | { 1: 24, 2: 25, 4: 26, 8: 27 }[bytes]];
  for (let at = bytes - 1; at >= 0; at--) found.push(Number((number >> BigInt(8 * at)) & 255n));
  return found;
}

function parts(value) {
  if (typeof value === "bigint" || Number.isSafeInteger(value)) {
    return BigInt(value) < 0n ? head(1, -1n - BigInt(value)) : head(0, value);
  }
  if (value instanceof Uint8Array) return [...head(2, value.length), ...value];
  if (typeof value === "string") {
    const bytes = new TextEncoder().encode(value);
    return [...head(3, bytes.length), ...bytes];
  }
  if (Array.isArray(value)) return [...head(4, value.length), ...value.flatMap(parts)];
  throw new TypeError(`no transaction holds ${typeof value} ${value}`);
}

export const encode = (value) => Uint8Array.from(parts(value));
