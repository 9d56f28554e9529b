// The npm package `ws` against the raw protocol, /echo, and the bytes of the Centrifugo protocol
// that its own library never sends.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

import { Gateway } from "./gateway.mjs";
import { Socket } from "./socket.mjs";
import { runAll, test, until } from "./suite.mjs";

const MESSAGE_BYTES_MAX = 64 * 1024;

test("text stays text and binary stays binary, for others and for the sender", async (t) => {
  const [anna, bert] = [await Socket.open(t, "/topic/a/b"), await Socket.open(t, "/topic/a%2Fb")];
  const sent = ["", "„zwölf“ 🦀", Buffer.alloc(0), Buffer.from([0, 1, 254, 255]), '{"json": true}'];
  for (const message of sent) anna.send(message);
  assert.deepEqual(await anna.received(sent.length), sent);
  assert.deepEqual(await bert.received(sent.length), sent);
});

test("two publishers are heard by all in the same order", async (t) => {
  const all = await Promise.all(Array.from({ length: 10 }, () => Socket.open(t, "/topic/order")));
  for (let number = 0; number < 200; number += 1) {
    all[0].send(`anna ${number}`);
    all[1].send(`bert ${number}`);
  }
  const first = await all[0].received(400);
  for (const name of ["anna", "bert"]) {
    const own = first.filter((message) => message.startsWith(name));
    assert.deepEqual(own, Array.from({ length: 200 }, (_, number) => `${name} ${number}`));
  }
  for (const socket of all) assert.deepEqual(await socket.received(400), first);
});

test("the API publishes to raw clients", async (t) => {
  const socket = await Socket.open(t, "/topic/news:raw");
  await t.gateway.api("publish", { channel: "news:raw", data: { a: [1, "zwei"] } });
  await t.gateway.api("publish", { channel: "news:raw", b64data: "AP8=" });
  const [json, binary] = await socket.received(2);
  assert.deepEqual(JSON.parse(json), { a: [1, "zwei"] });
  assert.deepEqual(binary, Buffer.from([0, 255]));
});

test("the subprotocol `ringway` is agreed when it is offered", async (t) => {
  assert.equal((await Socket.open(t, "/topic/demo", ["other", "ringway"])).websocket.protocol, "ringway");
  assert.equal((await Socket.open(t, "/topic/demo")).websocket.protocol, "");
});

test("a position recovers what was missed and is told in headers", async (t) => {
  const first = await Socket.open(t, "/topic/recover");
  const { "ringway-epoch": epoch, "ringway-offset": offset, "ringway-recovered": recovered } = first.headers;
  assert.deepEqual([offset, recovered], ["0", undefined]);
  for (const message of ["one", "two", "three"]) first.send(message);
  await first.received(3);
  const again = await Socket.open(t, `/topic/recover?offset=1&epoch=${encodeURIComponent(epoch)}`);
  assert.deepEqual(await again.received(2), ["two", "three"]);
  const { headers } = again;
  assert.deepEqual([headers["ringway-recovered"], headers["ringway-offset"], headers["ringway-epoch"]], ["true", "1", epoch]);
  first.send("four");
  assert.deepEqual(await again.received(3), ["two", "three", "four"]);
});

test("a position of another epoch is not recovered, and told so", async (t) => {
  const socket = await Socket.open(t, "/topic/recover?offset=1&epoch=other");
  const { headers } = socket;
  assert.deepEqual([headers["ringway-recovered"], headers["ringway-offset"]], ["false", "4"]);
  socket.send("five");
  assert.deepEqual(await socket.received(1), ["five"]);
});

test("clients with and without compression hear the same", async (t) => {
  const offers = [false, true, { serverMaxWindowBits: 12 }, { clientNoContextTakeover: true }];
  const open = (perMessageDeflate) => Socket.open(t, "/topic/packed", [], { perMessageDeflate });
  const all = await Promise.all(offers.map(open));
  assert.deepEqual(all.map(({ websocket }) => websocket.extensions), ["", ...Array(3).fill("permessage-deflate")]);
  assert.match(all[2].headers["sec-websocket-extensions"], /server_no_context_takeover.*server_max_window_bits=12/);
  const texts = Array.from({ length: 40 }, (_, number) => `${number} ${"over and over; ".repeat(number * 20)}`);
  for (const [number, text] of texts.entries()) {
    all[number % all.length].send(text);
    await Promise.all(all.map((socket) => socket.received(number + 1)));
  }
  for (const socket of all) assert.deepEqual(socket.messages, texts);
  const echo = await Socket.open(t, "/echo", [], { perMessageDeflate: { threshold: 0 } });
  const noise = randomBytes(60_000);
  for (const message of ["", ...texts, noise]) echo.send(message, { fin: true });
  assert.deepEqual(await echo.received(texts.length + 2), ["", ...texts, noise]);
});

test("requests that cannot be served are refused with a status", async (t) => {
  assert.equal(await Socket.refusal(t, "/topic/demo?offset=-1"), 400);
  assert.equal(await Socket.refusal(t, "/topic/demo?epoch=e"), 400);
  assert.equal(await Socket.refusal(t, "/topic/price:gold?offset=1"), 400);
  assert.equal(await Socket.refusal(t, "/topic/nowhere:x"), 404);
  assert.equal(await Socket.refusal(t, "/nothing/here"), 404);
  assert.equal(await Socket.refusal(t, "/connection/websocket?cf_protocol=protobuf"), 400);
});

test("the default origin is that of the host, a list replaces it", async (t) => {
  const own = { origin: `http://${t.gateway.authority}` };
  assert.equal((await Socket.open(t, "/topic/demo", [], own)).websocket.readyState, 1);
  assert.equal(await Socket.refusal(t, "/topic/demo", { origin: "http://evil.example" }), 403);
  assert.equal(await Socket.refusal(t, "/connection/websocket", { origin: "null" }), 403);
  const listed = { ...t, gateway: { authority: `127.0.0.1:${t.gateway.listedPort}` } };
  assert.equal((await Socket.open(listed, "/echo", [], { origin: "http://listed.example" })).websocket.readyState, 1);
  assert.equal(await Socket.refusal(listed, "/echo", { origin: `http://${listed.gateway.authority}` }), 403);
});

test("ten pings get ten pongs with the same bytes", async (t) => {
  const socket = await Socket.open(t, "/topic/demo");
  const sent = Array.from({ length: 10 }, (_, number) => `${number}`.padEnd(125, "p"));
  for (const data of sent) socket.websocket.ping(data);
  await until("ten pongs", () => socket.pongs.length === 10);
  assert.deepEqual(socket.pongs, sent);
});

test("the gateway's own pings keep a quiet connection", async (t) => {
  const socket = await Socket.open(t, "/topic/demo");
  await until("three pings", () => socket.pings === 3);
  assert.equal(socket.websocket.readyState, 1);
});

test("a client that answers no ping is closed", async (t) => {
  const socket = await Socket.open(t, "/topic/demo", [], { autoPong: false });
  assert.deepEqual(await socket.end(), [3008, "ping timeout"]);
});

test("messages up to the limit are echoed, whole and in fragments", async (t) => {
  const socket = await Socket.open(t, "/echo");
  const sizes = [125, 126, 65_535, MESSAGE_BYTES_MAX];
  const sent = sizes.map((size) => randomBytes(size));
  for (const message of sent) socket.send(message);
  const whole = randomBytes(60_000);
  for (let at = 0; at < 60_000; at += 1_000) {
    socket.send(whole.subarray(at, at + 1_000), { fin: at === 59_000 });
    if (at === 30_000) socket.websocket.ping("between fragments");
  }
  assert.deepEqual(await socket.received(5), [...sent, whole]);
  assert.deepEqual(socket.pongs, ["between fragments"]);
});

test("megabytes of messages come back complete and in order", async (t) => {
  const socket = await Socket.open(t, "/echo");
  const sent = Array.from({ length: 300 }, () => randomBytes(50_000));
  // No more on their way than the outbox may hold.
  for (let at = 0; at < sent.length; at += 10) {
    for (const message of sent.slice(at, at + 10)) socket.send(message);
    await socket.received(at + 10);
  }
  assert.ok(Buffer.concat(socket.messages).equals(Buffer.concat(sent)));
});

test("the client's close code is echoed", async (t) => {
  for (const code of [1000, 3000, 4321]) {
    const socket = await Socket.open(t, "/echo");
    socket.websocket.close(code, "enough");
    assert.equal((await socket.end())[0], code);
  }
  const silent = await Socket.open(t, "/echo");
  silent.websocket.close();
  assert.equal((await silent.end())[0], 1005);
});

test("what breaks a rule is answered with the code of that rule", async (t) => {
  const cases = [
    [(socket) => socket.send("x".repeat(MESSAGE_BYTES_MAX + 1)), [1009, "too_big"]],
    [(socket) => socket.send("unmasked", { mask: false }), [1002, "unmasked_client_frame"]],
    [(socket) => socket.send(Buffer.from([0xc3, 0x28]), { binary: false }), [1007, "invalid_utf8"]],
    [(socket) => { for (let n = 0; n < 200; n += 1) socket.send("f", { fin: false }); }, [1008, "too_many_fragments"]],
    [(socket) => { for (let n = 0; n < 200; n += 1) socket.websocket.ping(); }, [1008, "flood"]],
  ];
  for (const [offend, close] of cases) {
    const socket = await Socket.open(t, "/topic/demo");
    offend(socket);
    assert.deepEqual(await socket.end(), close);
  }
});

test("publishing where clients may not ends the connection", async (t) => {
  const socket = await Socket.open(t, "/topic/news:raw");
  socket.send("hello");
  assert.deepEqual(await socket.end(), [1008, "publish denied"]);
});

test("the second subscription to a channel is an error, and the first goes on", async (t) => {
  const socket = await Socket.open(t, "/connection/websocket");
  const subscribe = { subscribe: { channel: "demo" } };
  const lines = [{ id: 1, connect: {} }, { id: 2, ...subscribe }, { id: 3, ...subscribe }, { id: 4, publish: { channel: "demo", data: 7 } }];
  socket.send(lines.map((line) => JSON.stringify(line)).join("\n"));
  const answers = () => socket.messages.flatMap((message) => message.split("\n").map((line) => JSON.parse(line)));
  await until("all answers", () => answers().length >= 5);
  const of = (id) => answers().find((answer) => answer.id === id);
  assert.ok(of(2).subscribe.recoverable);
  assert.deepEqual(of(3).error, { code: 105, message: "already subscribed" });
  assert.deepEqual(of(4).publish, {});
  const pushes = answers().filter(({ push }) => push?.channel === "demo");
  assert.deepEqual(pushes.map(({ push }) => push.pub.data), [7]);
});

test("what no Centrifugo client says ends the connection", async (t) => {
  const connect = '{"id":1,"connect":{}}';
  const cases = [
    [['{"id":1,"subscribe":{"channel":"demo"}}'], [3501, "bad request"]],
    [[connect, connect], [3501, "bad request"]],
    [[connect, "{}"], [3501, "bad request"]],
    [[connect, '{"id":2,"nonsense":{}}'], [3501, "bad request"]],
    [["no JSON"], [3501, "bad request"]],
    [[connect, Buffer.from("{}")], [1003, "unsupported data"]],
    [[], [3502, "stale"]],
    [[connect], [3012, "no pong"]],
  ];
  const sockets = await Promise.all(cases.map(() => Socket.open(t, "/connection/websocket")));
  const closes = await Promise.all(cases.map(([messages], index) => {
    for (const message of messages) sockets[index].send(message);
    return sockets[index].end();
  }));
  assert.deepEqual(closes, cases.map(([, close]) => close));
});

test("Ping frames take the place of ping messages when they are asked for", async (t) => {
  const socket = await Socket.open(t, "/connection/websocket?cf_ws_frame_ping_pong=true");
  socket.send('{"id":1,"connect":{}}');
  await until("two pings", () => socket.pings === 2);
  const { connect } = JSON.parse(socket.messages[0]);
  assert.deepEqual([connect.ping, connect.pong, socket.messages.length], [undefined, undefined, 1]);
});

test("a drain tells raw clients when to come back", async (t) => {
  const old = await Gateway.start();
  const socket = await Socket.open({ ...t, gateway: old }, "/topic/demo");
  old.terminate();
  const [code, reason] = await socket.end();
  assert.equal(code, 1012);
  assert.match(reason, /^restart retry_ms=\d+-\d+$/);
  assert.equal(await old.ended, 0);
});

test("a client that stops reading is told that it is slow, others are not held up", async (t) => {
  const [slow, quick, talker] = await Promise.all([1, 2, 3].map(() => Socket.open(t, "/topic/heavy")));
  const overflows = () => t.gateway.metric("ringway_outbox_overflows_total");
  const before = await overflows();
  slow.websocket.pause();
  // What can be compressed would never fill a socket.
  const padding = randomBytes(45_000).toString("base64");
  let count = 0;
  while ((await overflows()) === before) {
    talker.send(`${count} ${padding}`);
    count += 1;
    await talker.received(count);
  }
  slow.websocket.resume();
  assert.deepEqual(await slow.end(), [4008, "slow"]);
  const all = await quick.received(count);
  assert.ok(slow.messages.length < count);
  assert.deepEqual(slow.messages, all.slice(0, slow.messages.length));
  assert.deepEqual([quick, talker].map(({ websocket }) => websocket.readyState), [1, 1]);
});

const gateway = await Gateway.start();
await runAll({ gateway }, () => gateway.stop());
