// Chromium: the demo page in two tabs, the npm package `centrifuge` in a page, and pages of others.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";

import { Gateway } from "./gateway.mjs";
import { CENTRIFUGE_FOR_PAGES, chromium } from "./packages.mjs";
import { pause, runAll, test, until } from "./suite.mjs";

const CHROMIUM = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};

// A tab of its own visitor, and what went wrong in it.
async function tab({ browser, after }, url) {
  const context = await browser.newContext();
  after(() => context.close());
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  await page.goto(url);
  return { context, page, faults };
}

// A demo page that is connected.
async function demo(t) {
  const opened = await tab(t, `http://${t.gateway.authority}/`);
  await opened.page.waitForSelector("main[data-state=open]");
  const lines = (kind) => opened.page.$$eval(`#list li.${kind}`, (items) => items.map((item) => item.firstChild.textContent));
  const say = async (text) => {
    await opened.page.fill("#text", text);
    await opened.page.click("#send");
  };
  return { ...opened, lines, say };
}

test("what is written in one tab appears in both, once", async (t) => {
  const [anna, bert] = [await demo(t), await demo(t)];
  await anna.say("hello from anna");
  await until("bert reads it", async () => (await bert.lines("other")).length === 1);
  await bert.say("<b>„hello“</b> from bert 🦀");
  await until("anna reads it", async () => (await anna.lines("other")).length === 1);
  await pause(100);
  assert.deepEqual(await anna.lines("own"), ["hello from anna"]);
  assert.deepEqual(await bert.lines("other"), ["hello from anna"]);
  assert.deepEqual(await bert.lines("own"), ["<b>„hello“</b> from bert 🦀"]);
  assert.deepEqual(await anna.lines("other"), ["<b>„hello“</b> from bert 🦀"]);
  assert.equal(await anna.page.textContent("#received"), "2");
  assert.deepEqual([...anna.faults, ...bert.faults], []);
});

test("what the API publishes appears on the demo page", async (t) => {
  const { lines } = await demo(t);
  await t.gateway.publish("demo", { text: "hello from the shell" });
  await until("it appears", async () => (await lines("other")).length === 1);
  assert.deepEqual((await lines("other")).map((text) => JSON.parse(text)), [{ text: "hello from the shell" }]);
});

test("the demo page says that the gateway restarts, and comes back", async (t) => {
  const old = await Gateway.start();
  t.after(() => old.process.kill("SIGKILL"));
  const { page } = await demo({ ...t, gateway: old });
  old.terminate();
  await page.waitForSelector("main[data-state=waiting]");
  assert.match(await page.textContent("#list li.note:last-child"), /1012 “restart retry_ms=\d+-\d+”/);
  await old.ended;
  const next = await Gateway.start(`listener.0.address=${old.authority}`);
  t.after(() => next.stop());
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await page.waitForSelector("main[data-state=open]");
});

// Puts centrifuge-js into a page and subscribes there to `channel`.
async function subscribeInPage(page, channel) {
  await page.addScriptTag({ path: CENTRIFUGE_FOR_PAGES });
  await page.evaluate(async (name) => {
    const client = new Centrifuge(`ws://${location.host}/connection/websocket`, { minReconnectDelay: 20, maxReconnectDelay: 100 });
    const subscription = client.newSubscription(name);
    globalThis.seen = { data: [], offsets: [], recovered: [], losses: [] };
    subscription.on("publication", ({ data, offset }) => {
      seen.data.push(data);
      seen.offsets.push(offset);
    });
    subscription.on("subscribed", ({ recovered }) => seen.recovered.push(recovered));
    client.on("connecting", ({ code }) => seen.losses.push(code));
    globalThis.gatewayClient = client;
    subscription.subscribe();
    client.connect();
    await subscription.ready(5000);
  }, channel);
  return () => page.evaluate(() => seen);
}

test("centrifuge-js in a page recovers what was published while it was offline", async (t) => {
  const { page, context, faults } = await tab(t, `http://${t.gateway.authority}/`);
  const seen = await subscribeInPage(page, "offline");
  await t.gateway.publishNumbers("offline", 1, 3);
  await until("three publications", async () => (await seen()).data.length === 3);
  await context.setOffline(true);
  await page.waitForFunction(() => gatewayClient.state === "connecting");
  await t.gateway.publishNumbers("offline", 4, 20);
  assert.equal((await seen()).data.length, 3);
  await context.setOffline(false);
  await until("all publications", async () => (await seen()).data.length >= 20);
  await t.gateway.publish("offline", 21);
  await until("the last publication", async () => (await seen()).data.length >= 21);
  const { data, offsets, recovered } = await seen();
  const expected = Array.from({ length: 21 }, (_, index) => index + 1);
  assert.deepEqual([data, offsets, recovered], [expected, expected, [false, true]]);
  assert.deepEqual(faults, []);
});

test("centrifuge-js in a page publishes to another page", async (t) => {
  const pages = [await tab(t, `http://${t.gateway.authority}/`), await tab(t, `http://${t.gateway.authority}/`)];
  const [seenByAnna, seenByBert] = await Promise.all(pages.map(({ page }) => subscribeInPage(page, "chat:pages")));
  await pages[0].page.evaluate(() => gatewayClient.getSubscription("chat:pages").publish({ from: "anna" }));
  await until("bert reads it", async () => (await seenByBert()).data.length === 1);
  for (const seen of [await seenByAnna(), await seenByBert()]) assert.deepEqual(seen.data, [{ from: "anna" }]);
});

// A site that is not the gateway's.
async function otherSite({ after }) {
  const server = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<p>another site</p>"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => new Promise((resolve) => {
    server.closeAllConnections();
    server.close(resolve);
  }));
  return `http://127.0.0.1:${server.address().port}`;
}

// Opens a WebSocket in a page; the handshake's status and whether the page got it open.
async function openInPage({ page, context }, url) {
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  let status;
  session.on("Network.webSocketHandshakeResponseReceived", ({ response }) => (status = response.status));
  session.on("Network.webSocketFrameError", ({ errorMessage }) => (status ??= Number(/response code: (\d+)/.exec(errorMessage)?.[1])));
  const opened = await page.evaluate((address) => new Promise((resolve) => {
    const socket = new WebSocket(address);
    socket.onopen = () => resolve(true);
    socket.onclose = () => resolve(false);
  }), url);
  await until("the handshake's status", () => status !== undefined);
  return { opened, status };
}

test("a page of another site is refused, a page of the gateway's own host is not", async (t) => {
  const own = await tab(t, `http://${t.gateway.authority}/`);
  const other = await tab(t, await otherSite(t));
  for (const path of ["/topic/demo", "/connection/websocket", "/echo"]) {
    const url = `ws://${t.gateway.authority}${path}`;
    assert.deepEqual(await openInPage(own, url), { opened: true, status: 101 }, path);
    assert.deepEqual(await openInPage(other, url), { opened: false, status: 403 }, path);
  }
});

test("a page of a listed site is let in, and then no other", async (t) => {
  const site = await otherSite(t);
  const gateway = await Gateway.start(`listener.1.origins=["${site}"]`);
  t.after(() => gateway.stop());
  const listed = await tab(t, site);
  const unlisted = await tab(t, await otherSite(t));
  const url = `ws://127.0.0.1:${gateway.listedPort}/topic/demo`;
  assert.deepEqual(await openInPage(listed, url), { opened: true, status: 101 });
  assert.deepEqual(await openInPage(unlisted, url), { opened: false, status: 403 });
});

// The page of closes in a browser, with what it asked for.
async function closesPage(t, gateway) {
  const opened = await tab(t, `http://127.0.0.1:${gateway.operatorPort}/closes`);
  const violations = [];
  opened.page.on("console", (message) => { if (message.type() === "error") violations.push(message.text()); });
  const cell = (cause, code) => opened.page.getByRole("button", { name: `${cause}, code ${code}:` });
  const rows = () => opened.page.$$eval("#closes tbody tr", (found) => found.map((row) => [...row.cells].map((of) => of.textContent)));
  return { ...opened, violations, cell, rows };
}

// Opens a WebSocket in `page` and ends it with `code` and `reason`.
function endInPage(page, url, code, reason) {
  return page.evaluate(([address, number, text]) => new Promise((resolve) => {
    const socket = new WebSocket(address);
    socket.onopen = () => socket.close(number, text);
    socket.onclose = resolve;
  }), [url, code, reason]);
}

test("the page of closes counts by cause and code, and leads to examples", async (t) => {
  const gateway = await Gateway.start();
  t.after(() => gateway.stop());
  const { page, faults, violations, cell, rows } = await closesPage(t, gateway);
  await page.waitForSelector("#empty:not([hidden])");
  assert.equal(await page.isVisible("#matrix"), false);
  const hostile = `<img src=x onerror="document.title='broken into'"><b>bye`;
  const visitor = await tab(t, `http://${gateway.authority}/`);
  for (const path of ["/echo", "/topic/t"]) await endInPage(visitor.page, `ws://${gateway.authority}${path}`, 4321, hostile);
  await endInPage(visitor.page, `ws://${gateway.authority}/echo`, 1000, "done");
  await until("three are counted", async () => (await gateway.metric("ringway_closed_total")) >= 3);
  await page.click("#refresh");
  await cell("client_close", "4xxx_other").click();
  await page.waitForSelector("#examples:not([hidden])");
  assert.match(await cell("client_close", "4xxx_other").textContent(), /^2 \+2$/);
  assert.match(await cell("client_close", "1000").textContent(), /^1 \+1$/);
  await until("two examples", async () => (await rows()).length === 2);
  for (const row of await rows()) {
    assert.equal(row[5], `4321 “${hostile}”`);
    assert.match(row[2], /^127\.0\.0\.1:\d+$/);
    assert.match(row[9], /opened, .*close_received, close_sent/);
  }
  assert.equal(await page.title(), "Closes - Ringway");
  assert.equal(await page.$("#closes img, #closes b"), null);
  assert.equal(await page.textContent("#examples-title"), "client_close, code 4xxx_other");
  assert.equal(await page.textContent("#meaning"), "The client sent Close first.");
  // Only what was chosen: by protocol, then another cell, then none.
  await page.selectOption("#protocol", "raw");
  await until("one example", async () => (await rows()).length === 1);
  await page.selectOption("#protocol", "");
  await cell("client_close", "1000").click();
  await until("the other example", async () => (await rows()).length === 1 && (await rows())[0][5] === "1000 “done”");
  await page.reload();
  await until("the choice outlives a reload", async () => (await rows()).length === 1);
  await cell("client_close", "1000").click();
  await page.waitForSelector("#examples", { state: "hidden" });
  assert.deepEqual([...faults, ...violations], []);
});

test("the page of closes asks for the key, and refreshes by itself", async (t) => {
  const key = "0123456789abcdef";
  const gateway = await Gateway.start("operator.api_insecure=false", `operator.api_key=${key}`);
  t.after(() => gateway.stop());
  const { page, faults } = await closesPage(t, gateway);
  await page.waitForSelector("#key:not([hidden])");
  assert.match(await page.textContent("#status"), /^unauthorized/);
  await page.fill("#secret", key);
  await page.click("#key button");
  await page.waitForSelector("#key", { state: "hidden" });
  assert.equal((await fetch(`http://${gateway.authority}/nowhere`)).status, 404);
  // Nobody touches the page.
  await page.waitForFunction(() => document.querySelector("#unopened tbody")?.textContent.includes("refused"));
  await page.click("#unopened button");
  await page.waitForSelector("#closes tbody tr");
  assert.equal(await page.textContent("#meaning"), "The request was answered with an HTTP error, or there was no room to hear it.");
  assert.deepEqual(faults, []);
});

const [gateway, browser] = await Promise.all([Gateway.start(), chromium.launch(CHROMIUM)]);
await runAll({ gateway, browser }, () => Promise.all([gateway.stop(), browser.close()]));
