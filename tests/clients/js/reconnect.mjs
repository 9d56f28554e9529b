// The npm package `centrifuge` when the network or the gateway fails, or sends it away.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

import { Gateway } from "./gateway.mjs";
import { Listener } from "./listener.mjs";
import { Proxy } from "./proxy.mjs";
import { runAll, test, until } from "./suite.mjs";

const upTo = (count) => Array.from({ length: count }, (_, index) => index + 1);

// A client behind a proxy to `gateway`, subscribed to `channel`.
async function behindProxy({ gateway, after }, channel, options) {
  const proxy = await Proxy.start(gateway.port);
  const listener = await Listener.connect(proxy.authority, options);
  after(() => {
    listener.close();
    return proxy.stop();
  });
  const followed = listener.follow(channel);
  await followed.ready();
  return { proxy, listener, followed };
}

// Runs `absent` while the client cannot reach the gateway, then waits for it to subscribe again.
async function whileCut({ proxy, listener, followed }, absent) {
  const subscribed = followed.subscribed.length;
  proxy.cut();
  await until("the client notices", () => listener.client.state !== "connected");
  await absent();
  proxy.heal();
  await until("the client is back", () => followed.subscribed.length > subscribed);
  return followed.subscribed.at(-1);
}

test("what was missed behind a cut is recovered, in order and once", async (t) => {
  const net = await behindProxy(t, "recover");
  await t.gateway.publishNumbers("recover", 1, 5);
  await net.followed.received(5);
  const again = await whileCut(net, () => t.gateway.publishNumbers("recover", 6, 25));
  assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
  await t.gateway.publish("recover", 26);
  await net.followed.received(26);
  assert.deepEqual(net.followed.data, upTo(26));
  assert.deepEqual(net.followed.offsets, upTo(26));
});

test("nothing missed is recovered as nothing", async (t) => {
  const net = await behindProxy(t, "quiet");
  const again = await whileCut(net, async () => {});
  assert.deepEqual([again.wasRecovering, again.recovered, again.hasRecoveredPublications], [true, true, false]);
  assert.deepEqual(net.followed.data, []);
});

test("many cuts under a steady stream lose and double nothing", async (t) => {
  const { proxy, followed } = await behindProxy(t, "long:stream");
  const publishing = t.gateway.publishNumbers("long:stream", 1, 600);
  for (let cut = 1; cut <= 6; cut += 1) {
    await followed.received(cut * 80);
    proxy.reset();
  }
  await publishing;
  await followed.received(600);
  assert.deepEqual(followed.data, upTo(600));
  assert.deepEqual(followed.offsets, upTo(600));
  assert.ok(followed.subscribed.length > 2);
  assert.ok(followed.subscribed.slice(1).every(({ recovered }) => recovered));
});

test("what the history does not cover is told, and nothing of it is delivered", async (t) => {
  const net = await behindProxy(t, "short:a");
  await t.gateway.publishNumbers("short:a", 1, 3);
  await net.followed.received(3);
  const again = await whileCut(net, () => t.gateway.publishNumbers("short:a", 4, 9));
  assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
  assert.equal(again.streamPosition.offset, 9);
  await t.gateway.publish("short:a", 10);
  await net.followed.received(4);
  assert.deepEqual(net.followed.data, [1, 2, 3, 10]);
});

test("exactly what the history covers is recovered", async (t) => {
  const net = await behindProxy(t, "short:b");
  await t.gateway.publishNumbers("short:b", 1, 3);
  await net.followed.received(3);
  const again = await whileCut(net, () => t.gateway.publishNumbers("short:b", 4, 8));
  assert.equal(again.recovered, true);
  assert.deepEqual(net.followed.data, upTo(8));
});

test("of a topic that keeps the newest, the newest is recovered", async (t) => {
  const net = await behindProxy(t, "price:gold");
  await t.gateway.publish("price:gold", 1);
  await net.followed.received(1);
  await whileCut(net, () => t.gateway.publishNumbers("price:gold", 2, 9));
  await net.followed.received(2);
  assert.deepEqual(net.followed.data, [1, 9]);
});

test("a silent network is noticed on both sides by the pings", async (t) => {
  const net = await behindProxy(t, "frozen", { maxServerPingDelay: 1_000 });
  const before = await t.gateway.metric("ringway_closed_total", 'cause="ping_timeout"');
  net.proxy.freeze();
  await t.gateway.publishNumbers("frozen", 1, 3);
  await net.followed.received(3);
  assert.deepEqual(net.followed.data, [1, 2, 3]);
  assert.deepEqual(net.listener.losses, [{ code: 2, reason: "no ping" }]); // connectingCodes.noPing
  const timeouts = () => t.gateway.metric("ringway_closed_total", 'cause="ping_timeout"');
  await until("the gateway notices", async () => (await timeouts()) === before + 1);
});

test("a client that stops reading is told that it is slow, comes back and knows what it has", async (t) => {
  const { proxy, listener, followed } = await behindProxy(t, "heavy");
  const overflows = () => t.gateway.metric("ringway_outbox_overflows_total");
  const before = await overflows();
  proxy.freeze();
  // What can be compressed would never fill a socket.
  const padding = randomBytes(45_000).toString("base64");
  let last = 0;
  while ((await overflows()) === before) {
    last += 1;
    await t.gateway.publish("heavy", { number: last, padding });
  }
  proxy.thaw();
  await until("the client is back", () => followed.subscribed.length === 2);
  assert.deepEqual(listener.losses, [{ code: 3008, reason: "slow" }]);
  // Megabytes were dropped, more than the history keeps.
  assert.equal(followed.subscribed[1].recovered, false);
  assert.equal(followed.subscribed[1].streamPosition.offset, last);
  await t.gateway.publish("heavy", { number: last + 1 });
  await until("the newest", () => followed.offsets.at(-1) === last + 1);
  const held = followed.publications.length - 1;
  assert.deepEqual(followed.offsets, [...upTo(held), last + 1]);
  assert.deepEqual(followed.data.map(({ number }) => number), followed.offsets);
});

test("a subscription that brings its own state loads it anew when its position is too old", async (t) => {
  await t.gateway.publishNumbers("short:state", 1, 9);
  const { epoch } = await t.gateway.api("history", { channel: "short:state", limit: 0 });
  const listener = await Listener.connect(t.gateway.authority);
  t.after(() => listener.close());
  const positions = [{ offset: 2, epoch }, { offset: 7, epoch }];
  const followed = listener.follow("short:state", { getState: async () => positions.shift(), minResubscribeDelay: 10 });
  await followed.ready();
  await followed.received(2);
  assert.deepEqual(positions, []);
  assert.deepEqual(followed.offsets, [8, 9]);
  assert.equal(followed.subscribed.length, 1);
});

test("the API disconnects a client for good", async (t) => {
  const { listener } = await behindProxy(t, "demo");
  await t.gateway.api("disconnect", { client: listener.connected[0].client });
  await until("the end", () => listener.disconnected.length === 1);
  const { code, reason } = listener.disconnected[0];
  assert.deepEqual({ code, reason }, { code: 3503, reason: "force disconnect" });
  assert.deepEqual(listener.losses, []);
});

test("the API sends a client away with a code that lets it come back", async (t) => {
  const { listener, followed } = await behindProxy(t, "demo");
  const disconnect = { code: 4100, reason: "come back" };
  await t.gateway.api("disconnect", { client: listener.connected[0].client, disconnect });
  await until("the return", () => followed.subscribed.length === 2);
  assert.deepEqual(listener.losses, [disconnect]);
  assert.equal(followed.subscribed[1].recovered, true);
});

test("a drained gateway sends its clients to the next one and ends", async (t) => {
  const old = await Gateway.start();
  const net = await behindProxy({ ...t, gateway: old }, "moving");
  await old.publish("moving", "before");
  await net.followed.received(1);
  old.terminate();
  await until("the readiness check fails", async () => (await old.readiness()) === 503);
  assert.deepEqual(net.listener.losses, []);
  net.proxy.target = t.gateway.port;
  assert.equal(await old.ended, 0);
  await until("the client is at the next one", () => net.followed.subscribed.length === 2);
  assert.deepEqual(net.listener.losses, [{ code: 3001, reason: "shutdown" }]);
  // Another process, another epoch: a position of the old one means nothing.
  assert.deepEqual([net.followed.subscribed[1].wasRecovering, net.followed.subscribed[1].recovered], [true, false]);
  await t.gateway.publish("moving", "after");
  await net.followed.received(2);
  assert.deepEqual(net.followed.data, ["before", "after"]);
});

const gateway = await Gateway.start();
await runAll({ gateway }, () => gateway.stop());
