// A TCP proxy that stands for the network between client and gateway, and its failures.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Proxy {
  // A proxy to `target`, a port of this machine.
  static async start(target) {
    const proxy = new Proxy(target);
    proxy.server.listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    return proxy;
  }

  constructor(target) {
    this.target = target;
    this.up = true;
    this.pairs = new Set();
    this.server = createServer((client) => this.join(client));
  }

  get authority() {
    return `127.0.0.1:${this.server.address().port}`;
  }

  join(client) {
    if (!this.up) return client.resetAndDestroy();
    const gateway = connect(this.target, "127.0.0.1");
    const pair = { client, gateway };
    this.pairs.add(pair);
    for (const [from, to] of [[client, gateway], [gateway, client]]) {
      from.setNoDelay(true);
      from.on("data", (bytes) => to.write(bytes));
      from.on("end", () => to.end());
      // The other side learns of every end by the close.
      from.on("error", () => {});
      from.on("close", () => {
        to.destroy();
        this.pairs.delete(pair);
      });
    }
  }

  // Resets all connections and refuses new ones until `heal`.
  cut() {
    this.up = false;
    this.reset();
  }

  reset() {
    for (const { client, gateway } of this.pairs) {
      client.resetAndDestroy();
      gateway.resetAndDestroy();
    }
  }

  heal() {
    this.up = true;
  }

  // Forwards nothing more on the connections of now, and tells nobody.
  freeze() {
    for (const { client, gateway } of this.pairs) {
      client.pause();
      gateway.pause();
    }
  }

  // Forwards again what it has held back.
  thaw() {
    for (const { client, gateway } of this.pairs) {
      client.resume();
      gateway.resume();
    }
  }

  stop() {
    this.cut();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
