// The timestamp extension: replies to stamped messages have a timestamp too.
import assert from "node:assert/strict";
import {TimeStampExtension} from "cometd/TimeStampExtension.js";

export const only = "cometd";

export async function run(t) {
    const client = await t.newClient();
    client.native.registerExtension("timestamp", new TimeStampExtension());
    const reply = await client.open();
    assert.ok(Math.abs(Date.parse(reply.timestamp) - Date.now()) < 10_000, `timestamp ${reply.timestamp}`);
    const inbox = await client.subscribe(t.channel("a"));
    await client.publish(t.channel("a"), 1);
    await inbox.expect(1);
}
