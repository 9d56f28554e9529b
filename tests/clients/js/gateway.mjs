// A gateway of the tests' own, on free ports.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

import { until, within } from "./suite.mjs";

const CONFIG = fileURLToPath(new URL("../gateway.toml", import.meta.url));

async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export class Gateway {
  // Starts one and waits until it takes clients. `settings`: further `key=value` overrides.
  static async start(...settings) {
    const [port, listedPort, operatorPort] = await freePorts(3);
    const overrides = [
      `listener.0.address=127.0.0.1:${port}`,
      `listener.1.address=127.0.0.1:${listedPort}`,
      `operator.address=127.0.0.1:${operatorPort}`,
      ...settings,
    ];
    const gateway = new Gateway(port, listedPort, operatorPort, overrides);
    await gateway.ready();
    return gateway;
  }

  constructor(port, listedPort, operatorPort, overrides) {
    this.port = port;
    this.listedPort = listedPort;
    this.operatorPort = operatorPort;
    const flags = overrides.flatMap((override) => ["--set", override]);
    this.process = spawn(process.env.RINGWAY, ["run", "--config", CONFIG, ...flags], { stdio: "inherit" });
    this.ended = once(this.process, "exit").then(([status, signal]) => signal ?? status);
    // Whatever becomes of the tests, it does not outlive them.
    const kill = () => this.process.kill("SIGKILL");
    process.once("exit", kill);
    this.process.once("exit", () => process.off("exit", kill));
  }

  async ready() {
    await until("the gateway is ready", async () => {
      if (this.process.exitCode !== null) throw new Error("the gateway ended");
      return (await this.readiness()) === 200;
    });
  }

  // The status of the readiness check; undefined when nobody answers.
  async readiness() {
    const answer = await fetch(`http://127.0.0.1:${this.operatorPort}/readyz`).catch(() => undefined);
    await answer?.arrayBuffer();
    return answer?.status;
  }

  get authority() {
    return `127.0.0.1:${this.port}`;
  }

  // Calls a method of the server API; the result, or an error of its own.
  async api(method, parameters) {
    const answer = await fetch(`http://127.0.0.1:${this.operatorPort}/api/${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(parameters),
    });
    const body = await answer.json();
    if (body.error) throw new Error(`${method}: ${body.error.code} ${body.error.message}`);
    return body.result;
  }

  publish(channel, data) {
    return this.api("publish", { channel, data });
  }

  // Publishes the numbers from `first` to `last`, in order.
  async publishNumbers(channel, first, last) {
    for (let number = first; number <= last; number += 1) await this.publish(channel, number);
  }

  // The sum of a metric over all series whose labels contain `label`.
  async metric(name, label = "") {
    const answer = await fetch(`http://127.0.0.1:${this.operatorPort}/metrics`);
    const lines = (await answer.text()).split("\n");
    const series = lines.filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)));
    return series.filter((line) => line.includes(label)).reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  // Asks it to end in order.
  terminate() {
    this.process.kill("SIGTERM");
  }

  // Ends it, in order if it can.
  async stop() {
    this.terminate();
    const killing = setTimeout(() => this.process.kill("SIGKILL"), 3_000);
    await within(5_000, "the end of the gateway", this.ended);
    clearTimeout(killing);
  }
}
