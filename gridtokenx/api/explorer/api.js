// Questions to the interface that serves this page. Nothing else is ever asked.

const ROOT = "/api/v1";
const TIMEOUT_MS = 20_000;

export class Problem extends Error {
  constructor(details) {
    super(details.detail);
    this.code = details.code;
    this.details = details;
  }
}

export async function get(path, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined));
  const answer = await fetch(`${ROOT}${path}${asked.size ? `?${asked}` : ""}`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (answer.ok) return answer.json();
  let details = { code: "internal", detail: `${answer.status} ${answer.statusText}` };
  try {
    details = await answer.json();
  } catch {
    /* not from the interface itself: a proxy, or nothing at all */
  }
  throw new Problem(details);
}

// The same, with null for what does not exist.
export async function lookUp(path, query) {
  try {
    return await get(path, query);
  } catch (error) {
    if (error instanceof Problem && error.details.status === 404) return null;
    throw error;
  }
}
