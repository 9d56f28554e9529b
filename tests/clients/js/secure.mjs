// wss: the npm packages `ws` and `centrifuge` with an authority that they are told of.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Gateway } from "./gateway.mjs";
import { Centrifuge, WebSocket } from "./packages.mjs";
import { runAll, test, within } from "./suite.mjs";

const folder = mkdtempSync(join(tmpdir(), "ringway-tls-"));
const [chain, key] = ["chain.pem", "key.pem"].map((name) => join(folder, name));
execFileSync("openssl", [
  ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
  ...["-subj", "/CN=ringway", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain],
], { stdio: "ignore" });
const ca = readFileSync(chain);

// A WebSocket that trusts the authority above.
class Trusting extends WebSocket {
  constructor(url, protocols, options) {
    super(url, protocols, { ...options, ca });
  }
}

test("ws: messages of all sizes come back, and the close is clean", async ({ gateway, after }) => {
  for (const version of ["TLSv1.2", "TLSv1.3"]) {
    const options = { minVersion: version, maxVersion: version };
    const socket = new Trusting(`wss://localhost:${gateway.port}/echo`, [], options);
    after(() => socket.terminate());
    await within(5_000, "opening", new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject)));
    assert.equal(socket._socket.getProtocol(), version);
    for (const size of [0, 1, 125, 126, 16_384, 65_535]) {
      const echoed = new Promise((resolve) => socket.once("message", resolve));
      const sent = Buffer.alloc(size, "ringway ");
      socket.send(sent);
      assert.ok(sent.equals(await within(5_000, "the echo", echoed)), `${size} bytes`);
    }
    const closed = new Promise((resolve) => socket.on("close", (code) => resolve(code)));
    socket.close(1000);
    assert.equal(await within(5_000, "the close", closed), 1000);
  }
});

test("ws: whoever does not trust the authority says so in an alert", async ({ gateway }) => {
  const socket = new WebSocket(`wss://localhost:${gateway.port}/echo`);
  const error = await within(5_000, "the error", new Promise((resolve) => socket.on("error", resolve)));
  assert.match(error.message, /self-signed/);
});

test("centrifuge: a subscription is told what is published", async ({ gateway, after }) => {
  const url = `wss://localhost:${gateway.port}/connection/websocket`;
  const centrifuge = new Centrifuge(url, { websocket: Trusting });
  after(() => centrifuge.disconnect());
  const subscription = centrifuge.newSubscription("news:secure");
  const heard = new Promise((resolve) => subscription.on("publication", ({ data }) => resolve(data)));
  const subscribed = new Promise((resolve) => subscription.on("subscribed", resolve));
  subscription.subscribe();
  centrifuge.connect();
  await within(5_000, "the subscription", subscribed);
  await gateway.publish("news:secure", { sealed: true });
  assert.deepEqual(await within(5_000, "the publication", heard), { sealed: true });
});

const gateway = await Gateway.start(
  "listener.0.tls=true",
  `certificate.0.chain="${chain}"`,
  `certificate.0.key="${key}"`,
);
await runAll({ gateway }, async () => {
  await gateway.stop();
  rmSync(folder, { recursive: true });
});
