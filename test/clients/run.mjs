// Runs scenarios against a Bayeux server and prints a line of JSON for each:
//   node run.mjs --url http://127.0.0.1:8080/cometd --client cometd|faye
//       [--transport long-polling|websocket|callback-polling] [--rest http://127.0.0.1:8081] [--only name,…] [--skip name,…] [--timeout ms] [--max-interval ms]
// Exits with 1 if any fails. Scenarios that need the REST door fail without it.
import {readdir} from "node:fs/promises";
import {parseArgs} from "node:util";
import {Rest} from "./lib/rest.mjs";
import {Wire} from "./lib/wire.mjs";

const {values: options} = parseArgs({
    options: {
        url: {type: "string", default: "http://127.0.0.1:8080/cometd"},
        rest: {type: "string", default: "http://127.0.0.1:8081"},
        client: {type: "string", default: "cometd"},
        transport: {type: "string", default: "long-polling"},
        only: {type: "string", default: ""},
        skip: {type: "string", default: ""},
        timeout: {type: "string", default: "30000"},
        "max-interval": {type: "string", default: "10000"},
    },
});
if (!["cometd", "faye"].includes(options.client)) {
    console.error(`--client is cometd or faye, not ${options.client}`);
    process.exit(2);
}
const transports = {cometd: ["long-polling", "websocket", "callback-polling"], faye: ["long-polling", "websocket"]};
if (!transports[options.client].includes(options.transport)) {
    console.error(`--transport of ${options.client} is ${transports[options.client].join(", ")}, not ${options.transport}`);
    process.exit(2);
}
const {Client} = await import(`./lib/${options.client}.mjs`);
const run = Date.now().toString(36) + Math.floor(Math.random() * 1296).toString(36);
const names = text => text.split(",").filter(Boolean);

// What a scenario is given: clients, a place of its own, and the REST door.
class Stage {
    #closers = [];

    constructor(name) {
        this.root = `/test/${run}/${name}`;
        this.rest = new Rest(options.rest);
        this.maxInterval = Number(options["max-interval"]);
        this.transport = options.transport;
    }

    // A channel that nobody else uses.
    channel(name) {
        return `${this.root}/${name}`;
    }

    // A network of one's own.
    async wire() {
        const wire = await Wire.open(options.url);
        this.#closers.push(() => wire.close());
        return wire;
    }

    // A client that has not shaken hands yet.
    async newClient(wire) {
        wire ??= await this.wire();
        const client = new Client(wire.url, options.transport);
        client.wire = wire;
        this.#closers.push(() => client.close());
        return client;
    }

    async client(wire) {
        const client = await this.newClient(wire);
        await client.open();
        return client;
    }

    // Has something undone at the end.
    after(fn) {
        this.#closers.push(fn);
    }

    async close() {
        for (const close of this.#closers.reverse()) {
            await Promise.race([Promise.resolve().then(close).catch(() => {}), new Promise(late => setTimeout(late, 1000))]);
        }
    }
}

async function play(name, scenario) {
    const stage = new Stage(name);
    const start = performance.now();
    let timer;
    const result = {scenario: name, ok: true, ms: 0, detail: ""};
    try {
        const late = new Promise((_, failed) => {
            timer = setTimeout(() => failed(new Error("timed out")), scenario.timeout ?? Number(options.timeout));
        });
        result.detail = await Promise.race([scenario.run(stage), late]) ?? "";
    } catch (error) {
        result.ok = false;
        result.detail = String(error?.stack ?? error);
    }
    clearTimeout(timer);
    result.ms = Math.round(performance.now() - start);
    await stage.close();
    return result;
}

process.on("unhandledRejection", error => {
    console.error("unhandled:", error);
    process.exitCode = 1;
});

let failed = 0;
for (const file of (await readdir(new URL("scenarios", import.meta.url))).sort()) {
    const name = file.replace(/\.mjs$/, "");
    const scenario = await import(`./scenarios/${file}`);
    const wanted = options.only === "" || names(options.only).includes(name);
    const possible = (scenario.only ?? options.client) === options.client
        && (scenario.transports ?? [options.transport]).includes(options.transport);
    if (!wanted || !possible || names(options.skip).includes(name)) {
        continue;
    }
    const result = await play(name, scenario);
    failed += result.ok ? 0 : 1;
    console.log(JSON.stringify(result));
}
process.exit(failed > 0 ? 1 : process.exitCode ?? 0);
