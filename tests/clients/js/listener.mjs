// A centrifuge-js client and its subscriptions, and what became of them.
import { Centrifuge, WebSocket } from "./packages.mjs";
import { until } from "./suite.mjs";

// Quick where the library's own patience would only make the tests long.
const IMPATIENT = { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 100, timeout: 3_000 };

export class Listener {
  constructor(authority, options = {}) {
    this.client = new Centrifuge(`ws://${authority}/connection/websocket`, { ...IMPATIENT, ...options });
    this.connecting = [];
    this.connected = [];
    this.disconnected = [];
    this.client.on("connecting", (context) => this.connecting.push(context));
    this.client.on("connected", (context) => this.connected.push(context));
    this.client.on("disconnected", (context) => this.disconnected.push(context));
    // The library reports here what it then acts upon; an event without a listener would throw.
    this.client.on("error", () => {});
    this.client.connect();
  }

  // Connects with the given options and waits until that is done.
  static async connect(authority, options) {
    const listener = new Listener(authority, options);
    await listener.client.ready();
    return listener;
  }

  follow(channel, options = {}) {
    return new Followed(this.client, channel, options);
  }

  // The code and reason of each time that the connection was lost.
  get losses() {
    return this.connecting.slice(1).map(({ code, reason }) => ({ code, reason }));
  }

  close() {
    this.client.disconnect();
  }
}

class Followed {
  constructor(client, channel, options) {
    this.subscription = client.newSubscription(channel, options);
    this.publications = [];
    this.subscribed = [];
    this.unsubscribed = [];
    this.errors = [];
    this.subscription.on("publication", (publication) => this.publications.push(publication));
    this.subscription.on("subscribed", (context) => this.subscribed.push(context));
    this.subscription.on("unsubscribed", (context) => this.unsubscribed.push(context));
    this.subscription.on("error", ({ error }) => this.errors.push(error));
    this.subscription.subscribe();
  }

  ready() {
    return this.subscription.ready();
  }

  get data() {
    return this.publications.map(({ data }) => data);
  }

  get offsets() {
    return this.publications.map(({ offset }) => offset);
  }

  // Waits until `count` publications are here.
  received(count) {
    return until(`${count} publications`, () => this.publications.length >= count);
  }
}
