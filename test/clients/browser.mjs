// Runs a page in a real browser against a server, and prints a line of JSON for
// each scenario:
//   node browser.mjs --browser chrome|firefox --executable /usr/bin/chromium
//       --page http://localhost:8000 --edge http://127.0.0.1:8080 --rest http://127.0.0.1:8081
// The page's origin is allowed by the edge, and serves the edge's channels, too,
// for frames. Exits with 1 if any scenario fails.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";
import {parseArgs} from "node:util";
import puppeteer from "puppeteer-core";
import {Rest} from "./lib/rest.mjs";
import {Wire} from "./lib/wire.mjs";

const {values: options} = parseArgs({
    options: {
        browser: {type: "string", default: "chrome"},
        executable: {type: "string", default: "/usr/bin/chromium"},
        page: {type: "string"},
        edge: {type: "string", default: "http://127.0.0.1:8080"},
        rest: {type: "string", default: "http://127.0.0.1:8081"},
        only: {type: "string", default: ""},
    },
});
const rest = new Rest(options.rest);
const run = Date.now().toString(36);
const tricky = [
    null, 0, "", false, [], {}, 9007199254740991, {"": {"__proto__": 1}}, JSON.parse('{"__proto__":{"a":1}}'),
    "åéîøü Ελληνικά 中文 😀 \u2028\u2029", "</script><script>alert(1)</script><!-- ]]> &amp; \u0000", "\n\r\n--comet\r\nid: 7\n\n",
    "0123456789abcdef".repeat(4096),
];

const browser = await puppeteer.launch({
    browser: options.browser,
    executablePath: options.executable,
    headless: true,
    args: options.browser === "chrome" ? ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"] : [],
});

// Waits until the page has seen what a test wants to see, and returns all.
async function seen(page, test, ms = 15_000) {
    let all = [];
    for (const end = Date.now() + ms; Date.now() < end; await pause(50)) {
        all = JSON.parse(await page.evaluate(() => JSON.stringify(window.seen ?? []))); // as text it stays what it is
        if (test(all)) {
            return all;
        }
    }
    throw new Error(`not within ${ms} ms; seen: ${JSON.stringify(all).slice(0, 2000)}`);
}

const data = objects => objects.filter(object => object.position).map(object => object.data);
const publish = async (channel, values) => {
    for (const value of values) {
        await rest.publish(channel, JSON.stringify(value));
    }
};

// Everything arrives as it was published; after a cut the page goes on where it
// was.
async function follows(page, way, channel) {
    const wire = await Wire.open(options.edge);
    const base = way === "frame" ? options.page : new URL(wire.url).origin;
    try {
        await page.evaluate((...given) => { follow(...given); }, way, base, channel);
        await seen(page, all => all.length > 0);
        await publish(channel, tricky);
        const all = await seen(page, all => data(all).length === tricky.length);
        assert.deepEqual(data(all), JSON.parse(JSON.stringify(tricky)));
        if (way === "xhr") {
            assert.ok(all.every(object => object.state === 3), "nothing came before the end of the response");
        }
        if (way === "frame") {
            return await reloads(page, channel, all);
        }
        wire.cut();
        await publish(channel, ["while away", "still away"]);
        await pause(300);
        wire.restore();
        await publish(channel, ["back"]);
        const more = await seen(page, all => data(all).includes("back"), 30_000);
        assert.deepEqual(data(more).slice(tricky.length), ["while away", "still away", "back"]);
        return `${more.length} objects`;
    } finally {
        wire.close();
    }
}

// A frame is loaded anew when it has grown, and misses nothing.
async function reloads(page, channel, before) {
    const filling = "x".repeat(10_000);
    const numbers = Array.from({length: 30}, (_, n) => ({n, filling}));
    await publish(channel, numbers);
    const all = await seen(page, all => data(all).length >= tricky.length + numbers.length);
    assert.deepEqual(data(all).slice(tricky.length), numbers);
    const opens = all.filter(object => object.type === "open").length;
    assert.ok(opens > before.filter(object => object.type === "open").length, "it was not loaded anew");
    return `${opens} loads`;
}

// A page of another origin learns nothing, whatever it tries.
async function denied(page, channel) {
    await page.evaluate((ways, ...given) => { window.tries = ways.map(way => follow(way, ...given)); }, ways, options.edge, channel);
    await pause(500);
    await publish(channel, ["secret"]);
    await pause(1000);
    assert.equal(await page.evaluate(() => JSON.stringify(window.tries)), JSON.stringify(ways.map(() => [])));
}

// The reference clients, from a page of an allowed origin.
async function speaks(page, client, transport, channel) {
    await page.evaluate(async (...given) => { await bayeux(...given); }, client, transport, options.edge + "/cometd", channel);
    assert.equal(await page.evaluate(() => client.transport()), transport);
    const numbers = Array.from({length: 10}, (_, n) => ({n}));
    await page.evaluate(async (channel, numbers) => {
        for (const n of numbers) {
            await client.publish(channel, n);
        }
    }, channel, numbers);
    await seen(page, all => all.length >= numbers.length);
    await publish(channel, tricky);
    const all = await seen(page, all => all.length >= numbers.length + tricky.length);
    assert.deepEqual(all, [...numbers, ...JSON.parse(JSON.stringify(tricky))]);
    await page.evaluate(async () => { await client.close(); });
}

const ways = ["eventsource", "fetch", "multipart", "xhr", "frame", "script", "websocket"];
const scenarios = ways.map(way => ({name: way, run: (page, channel) => follows(page, way, channel)}));
scenarios.push({name: "denied", page: options.page.replace("localhost", "127.0.0.1"), run: denied});
for (const transport of ["websocket", "long-polling", "callback-polling"]) {
    scenarios.push({name: `cometd ${transport}`, run: (page, channel) => speaks(page, "cometd", transport, channel)});
}
for (const transport of ["websocket", "callback-polling"]) {
    scenarios.push({name: `faye ${transport}`, run: (page, channel) => speaks(page, "faye", transport, channel)});
}

let failed = 0;
for (const scenario of scenarios.filter(({name}) => options.only === "" || options.only === name)) {
    const page = await browser.newPage();
    const start = performance.now();
    const result = {browser: options.browser, scenario: scenario.name, ok: true, ms: 0, detail: ""};
    try {
        await page.goto(scenario.page ?? options.page);
        await page.waitForFunction(() => window.ready);
        result.detail = await scenario.run(page, `/browser/${run}/${scenario.name.replace(" ", "-")}`) ?? "";
    } catch (error) {
        result.ok = false;
        result.detail = String(error?.stack ?? error);
        failed++;
    }
    result.ms = Math.round(performance.now() - start);
    console.log(JSON.stringify(result));
    await page.close();
}
await browser.close();
process.exit(failed > 0 ? 1 : 0);
