// The npm package `centrifuge`: what an application does while nothing goes wrong.
import assert from "node:assert/strict";

import { Gateway } from "./gateway.mjs";
import { Listener } from "./listener.mjs";
import { WebSocket } from "./packages.mjs";
import { pause, runAll, test, until } from "./suite.mjs";

async function connect({ gateway, after }, options) {
  const listener = await Listener.connect(gateway.authority, options);
  after(() => listener.close());
  return listener;
}

test("a client learns its name, the server and the transport", async (t) => {
  const { connected } = await connect(t);
  assert.match(connected[0].client, /^[0-9a-f-]{36}$/);
  assert.equal(connected[0].transport, "websocket");
});

test("what a client publishes reaches all subscribers once, itself included", async (t) => {
  const [anna, bert] = [await connect(t), await connect(t)];
  const followed = [anna, bert].map((listener) => listener.follow("chat:hall"));
  await Promise.all(followed.map((f) => f.ready()));
  const said = Array.from({ length: 50 }, (_, index) => ({ text: `line\n${index} „äöü“ 🦀`, index, deep: [null, [1.5]] }));
  await Promise.all(said.map((data) => followed[0].subscription.publish(data)));
  for (const f of followed) {
    await f.received(50);
    assert.deepEqual(f.data, said);
    assert.deepEqual(f.offsets, said.map((_, index) => index + 1));
    assert.ok(f.publications.every(({ info }) => info.client === anna.connected[0].client));
  }
});

test("what the API publishes arrives with the offset and epoch that it was told", async (t) => {
  const listener = await connect(t);
  const followed = listener.follow("news:today");
  await followed.ready();
  const first = await t.gateway.publish("news:today", { headline: "one" });
  const second = await t.gateway.api("publish", { channel: "news:today", data: "two", tags: { lang: "en" } });
  await followed.received(2);
  assert.deepEqual(followed.data, [{ headline: "one" }, "two"]);
  assert.deepEqual(followed.offsets, [first.offset, second.offset]);
  assert.deepEqual(followed.publications[1].tags, { lang: "en" });
  assert.equal(followed.publications[0].info, undefined);
  assert.deepEqual(followed.subscribed[0].streamPosition, { offset: 0, epoch: first.epoch });
  assert.equal(second.epoch, first.epoch);
});

test("what is large enough is compressed for those who offered it, and means the same", async (t) => {
  const before = await t.gateway.metric("ringway_deflate_messages_compressed_total");
  const [anna, bert] = [await connect(t), await connect(t)];
  const followed = [anna, bert].map((listener) => listener.follow("chat:packed"));
  await Promise.all(followed.map((f) => f.ready()));
  const said = Array.from({ length: 20 }, (_, index) => ({ index, text: "over and over; ".repeat(index * 30) }));
  for (const data of said) await followed[0].subscription.publish(data);
  for (const f of followed) {
    await f.received(20);
    assert.deepEqual(f.data, said);
  }
  const { publications } = await followed[1].subscription.history({ limit: 100 });
  assert.deepEqual(publications.map(({ data }) => data), said);
  const after = await t.gateway.metric("ringway_deflate_messages_compressed_total");
  assert.ok(after - before >= 19, `${after - before} messages compressed`);
});

test("messages of raw clients arrive as JSON, text or Base64", async (t) => {
  const followed = (await connect(t)).follow("mixed");
  await followed.ready();
  const raw = new WebSocket(`ws://${t.gateway.authority}/topic/mixed`);
  t.after(() => raw.terminate());
  await new Promise((resolve) => raw.once("open", resolve));
  for (const message of ['{"a": 1}', 'not "JSON"', Buffer.from([0, 255])]) raw.send(message);
  await followed.received(3);
  assert.deepEqual(followed.data, [{ a: 1 }, 'not "JSON"', "AP8="]);
});

test("the history is read forwards, backwards and from a position", async (t) => {
  const listener = await connect(t);
  const { subscription } = listener.follow("chat:history");
  await subscription.ready();
  await t.gateway.publishNumbers("chat:history", 1, 8);
  const numbers = async (options) => (await subscription.history(options)).publications.map(({ data }) => data);
  const top = await subscription.history({ limit: 0 });
  assert.deepEqual([top.publications, top.offset], [[], 8]);
  assert.deepEqual(await numbers({ limit: -1 }), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(await numbers({ limit: 3 }), [1, 2, 3]);
  assert.deepEqual(await numbers({ limit: 3, reverse: true }), [8, 7, 6]);
  assert.deepEqual(await numbers({ limit: 2, since: { offset: 5, epoch: top.epoch } }), [6, 7]);
  assert.deepEqual(await numbers({ limit: 9, since: { offset: 3, epoch: top.epoch }, reverse: true }), [2, 1]);
  await assert.rejects(numbers({ limit: 1, since: { offset: 5, epoch: "other" } }), { code: 112 });
});

test("after unsubscribing nothing arrives; subscribing again works", async (t) => {
  const listener = await connect(t);
  const followed = listener.follow("demo");
  await followed.ready();
  await t.gateway.publish("demo", "heard");
  await followed.received(1);
  followed.subscription.unsubscribe();
  // A command that is answered behind the unsubscribe.
  await listener.client.publish("elsewhere", 0);
  await t.gateway.publish("demo", "unheard");
  await pause(100);
  assert.equal(followed.unsubscribed[0].code, 0);
  await until("nobody is subscribed", async () => (await t.gateway.metric("ringway_subscriptions")) === 0);
  followed.subscription.subscribe();
  await followed.ready();
  await t.gateway.publish("demo", "heard again");
  await until("the last publication", () => followed.data.includes("heard again"));
  assert.equal(followed.data.filter((data) => data === "heard").length, 1);
});

test("a refused subscription carries the code of its cause", async (t) => {
  const listener = await connect(t);
  const unknown = listener.follow("nowhere:x");
  const tokened = listener.follow("demo", { token: "not ours" });
  await until("both answers", () => unknown.unsubscribed.length + tokened.unsubscribed.length === 2);
  assert.equal(unknown.unsubscribed[0].code, 102);
  assert.equal(tokened.unsubscribed[0].code, 103);
  assert.equal(listener.losses.length, 0);
});

test("what is not offered is declined or refused, never ignored", async (t) => {
  const listener = await connect(t);
  const delta = listener.follow("delta", { delta: "fossil", joinLeave: true });
  await delta.ready();
  for (const data of [{ a: 1 }, { a: 2 }]) await t.gateway.publish("delta", data);
  await delta.received(2);
  assert.deepEqual(delta.data, [{ a: 1 }, { a: 2 }]);
  const filtered = listener.follow("filtered", { tagsFilter: { key: "lang", cmp: "eq", val: "en" } });
  await until("the refusal", () => filtered.unsubscribed.length === 1);
  assert.equal(filtered.unsubscribed[0].code, 107);
});

test("a refused command carries the code of its cause, and the connection goes on", async (t) => {
  const { client, losses } = await connect(t);
  await assert.rejects(client.publish("news:today", 1), { code: 103, message: "permission denied" });
  await assert.rejects(client.publish("nowhere:x", 1), { code: 102, message: "unknown channel" });
  await assert.rejects(client.publish("chat:hall", 1), { code: 103 });
  await assert.rejects(client.history("chat:hall", { limit: 1 }), { code: 103 });
  await assert.rejects(client.rpc("method", {}), { code: 108 });
  await assert.rejects(client.presence("demo"), { code: 108 });
  await assert.rejects(client.presenceStats("demo"), { code: 108 });
  await client.publish("demo", "still here");
  assert.deepEqual(losses, []);
});

test("a connection with a token is refused for good", async (t) => {
  const listener = new Listener(t.gateway.authority, { token: "not ours" });
  t.after(() => listener.close());
  await until("the refusal", () => listener.disconnected.length === 1);
  const { code, reason } = listener.disconnected[0];
  assert.deepEqual({ code, reason }, { code: 3500, reason: "invalid token" });
});

test("a hundred subscriptions in one frame are all answered", async (t) => {
  const listener = new Listener(t.gateway.authority);
  t.after(() => listener.close());
  const names = Array.from({ length: 100 }, (_, index) => `many-${index}`);
  const all = names.map((name) => listener.follow(name));
  await Promise.all(all.map((f) => f.ready()));
  listener.client.startBatching();
  const published = Promise.all(names.map((name) => listener.client.publish(name, name)));
  listener.client.stopBatching();
  await published;
  await Promise.all(all.map((f) => f.received(1)));
  assert.deepEqual(all.flatMap((f) => f.data), names);
});

test("more subscriptions than allowed are refused one by one", async (t) => {
  const listener = await connect(t);
  const all = Array.from({ length: 129 }, (_, index) => listener.follow(`limit-${index}`));
  await Promise.all(all.slice(0, 128).map((f) => f.ready()));
  await until("the refusal", () => all[128].unsubscribed.length === 1);
  assert.equal(all[128].unsubscribed[0].code, 106);
});

test("a publication over the limit ends the connection for good", async (t) => {
  const listener = await connect(t);
  listener.client.publish("demo", "x".repeat(64 * 1024)).catch(() => {});
  await until("the end", () => listener.disconnected.length === 1);
  assert.equal(listener.disconnected[0].code, 3); // messageSizeLimit, from close code 1009
});

test("a topic that keeps nothing is not recoverable, one that keeps the newest is", async (t) => {
  const listener = await connect(t);
  const [cursor, price] = [listener.follow("cursor:a"), listener.follow("price:a")];
  await Promise.all([cursor.ready(), price.ready()]);
  assert.equal(cursor.subscribed[0].recoverable, false);
  assert.equal(price.subscribed[0].recoverable, true);
  await t.gateway.publish("cursor:a", { x: 1 });
  await cursor.received(1);
  assert.equal(cursor.offsets[0], undefined);
});

test("pings keep a quiet connection through several intervals", async (t) => {
  // The client gives up when a ping is an interval late, and the server when a pong is.
  const listener = await connect(t, { maxServerPingDelay: 1_000 });
  await pause(4_500);
  assert.deepEqual(listener.losses, []);
  assert.equal(listener.client.state, "connected");
});

const gateway = await Gateway.start();
await runAll({ gateway }, () => gateway.stop());
