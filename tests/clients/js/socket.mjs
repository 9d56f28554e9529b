// A WebSocket of the npm package `ws`, and what it received.
import { WebSocket } from "./packages.mjs";
import { until, within } from "./suite.mjs";

export class Socket {
  // Begins to open `path`; `open` or `refused` tells how that went.
  constructor(authority, path, protocols = [], options = {}) {
    this.websocket = new WebSocket(`ws://${authority}${path}`, protocols, options);
    this.messages = [];
    this.pongs = [];
    this.pings = 0;
    this.websocket.on("message", (data, isBinary) => this.messages.push(isBinary ? data : data.toString()));
    this.websocket.on("pong", (data) => this.pongs.push(data.toString()));
    this.websocket.on("ping", () => (this.pings += 1));
    this.websocket.on("upgrade", ({ headers }) => (this.headers = headers));
    this.closed = new Promise((resolve) => {
      this.websocket.on("close", (code, reason) => resolve([code, reason.toString()]));
    });
    this.refused = new Promise((resolve) => {
      this.websocket.on("unexpected-response", (_, response) => {
        resolve(response.statusCode);
        this.websocket.terminate();
      });
    });
    const opened = new Promise((resolve, reject) => {
      this.websocket.on("open", () => resolve(this));
      this.websocket.on("error", reject);
    });
    opened.catch(() => {});
    this.open = () => within(5_000, `opening ${path}`, opened);
  }

  static open(t, path, protocols, options) {
    const socket = new Socket(t.gateway.authority, path, protocols, options);
    t.after(() => socket.websocket.terminate());
    return socket.open();
  }

  // The HTTP status that the handshake is refused with.
  static refusal(t, path, options) {
    const { refused } = new Socket(t.gateway.authority, path, [], options);
    return within(5_000, `the refusal of ${path}`, refused);
  }

  send(data, options) {
    this.websocket.send(data, options);
  }

  // Waits until `count` messages are here, and returns them.
  async received(count) {
    await until(`${count} messages`, () => this.messages.length >= count);
    return this.messages;
  }

  // The code and reason of the close.
  end() {
    return within(5_000, "the close", this.closed);
  }
}
