// The timesync extension learns the server's clock.
import assert from "node:assert/strict";
import {TimeSyncExtension} from "cometd/TimeSyncExtension.js";

export const only = "cometd";

export async function run(t) {
    const client = await t.newClient();
    const sync = new TimeSyncExtension();
    client.native.registerExtension("timesync", sync);
    const reply = await client.open();
    const {tc, ts, p, a} = reply.ext.timesync;
    for (const [name, value] of Object.entries({tc, ts, p, a})) {
        assert.equal(typeof value, "number", `${name} is ${value}`);
    }
    assert.ok(p >= 0 && p < 1000, `p is ${p}`);
    await client.subscribe(t.channel("a"));
    // Both clocks are the same when server and client share a machine.
    assert.ok(Math.abs(sync.getTimeOffset()) < 60_000, `offset ${sync.getTimeOffset()}`);
    return `lag ${sync.getNetworkLag()} ms, offset ${sync.getTimeOffset()} ms`;
}
