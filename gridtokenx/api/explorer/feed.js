// The live feeds (docs/api.md): one WebSocket, made anew as often as it breaks, its subscriptions going on.

const EVENTS = new Set(["blocks", "trades", "transactions", "alerts"]);
const NARROWED = ["account", "window", "zone"];
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const SILENT_MS = 25_000; // heartbeats come every ten seconds

const keyOf = (named) => [named.channel, ...NARROWED.map((name) => named[name] ?? "")].join("/");

export class Feed {
  #socket = null;
  #subscriptions = new Map();
  #waitMs = FIRST_WAIT_MS;
  #heard = 0;
  #onState;

  // `onState` is told "open" or "lost".
  constructor(onState) {
    this.#onState = onState;
    this.#connect();
    setInterval(() => {
      if (this.#socket?.readyState === WebSocket.OPEN && Date.now() - this.#heard > SILENT_MS) this.#socket.close();
    }, 5_000);
  }

  // `hear(message)` gets events, snapshots and updates. `after`: a height from which events are told again.
  subscribe(named, hear, after) {
    const key = keyOf(named);
    this.#subscriptions.set(key, { named, hear, height: after, live: false });
    this.#send({ op: "subscribe", ...named, ...(after === undefined ? {} : { after }) });
    return () => {
      if (this.#subscriptions.get(key)?.hear === hear && this.#subscriptions.delete(key)) {
        this.#send({ op: "unsubscribe", ...named });
      }
    };
  }

  #send(request) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(request));
  }

  #connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.#socket = socket;
    socket.onopen = () => {
      this.#heard = Date.now();
      this.#waitMs = FIRST_WAIT_MS;
      for (const subscription of this.#subscriptions.values()) this.#begin(subscription);
      this.#onState("open");
    };
    socket.onmessage = ({ data }) => {
      this.#heard = Date.now();
      for (const message of JSON.parse(data)) this.#take(message);
    };
    socket.onclose = () => {
      this.#onState("lost");
      setTimeout(() => this.#connect(), this.#waitMs);
      this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    };
  }

  #begin({ named, height }) {
    const goOn = EVENTS.has(named.channel) && height !== undefined;
    this.#send({ op: "subscribe", ...named, ...(goOn ? { after: height } : {}) });
  }

  #take(message) {
    if (message.type === "heartbeat") {
      for (const subscription of this.#subscriptions.values()) {
        if (subscription.live) subscription.height = Math.max(subscription.height, message.height);
      }
      return;
    }
    if (message.type === "error") {
      if (message.code === "ahead") {
        this.#socket.close(); // this node catches up; the next connection asks again
        return;
      }
      // Too far back to be told again: go on from now; whoever shows a past reads it anew.
      const refused = message.request && this.#subscriptions.get(keyOf(message.request));
      if (refused && refused.height !== undefined && message.request.after !== undefined) {
        refused.height = undefined;
        this.#begin(refused);
      }
      return;
    }
    const subscription = this.#subscriptions.get(keyOf(message));
    if (!subscription) return;
    const state = message.type === "snapshot";
    if (subscription.height !== undefined && subscription.live && message.after > subscription.height && !state) {
      this.#send({ op: "unsubscribe", ...subscription.named }); // a gap: told again from where we were
      subscription.live = false;
      this.#begin(subscription);
      return;
    }
    if (message.height !== undefined) subscription.height = message.height;
    if (state || message.type === "live") subscription.live = true;
    if (["event", "snapshot", "update"].includes(message.type)) subscription.hear(message);
  }
}
