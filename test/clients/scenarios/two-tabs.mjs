// Two clients with one cookie, tabs of one browser: one connect is held, the
// other is told to come back, and both hear everything.
import assert from "node:assert/strict";

export const only = "cometd";

export async function run(t) {
    const wire = await t.wire();
    const channel = t.channel("a");
    const first = await t.client(wire);
    const one = await first.subscribe(channel);
    await first.publish(channel, 0);
    await one.expect(0);

    const second = await t.newClient(wire);
    const advised = second.heard("/meta/connect", reply => reply.advice?.["multiple-clients"]);
    await second.open();
    const two = await second.subscribe(channel);
    const {advice} = await advised;
    assert.equal(advice.reconnect, "retry");
    assert.ok(advice.interval > 0, `interval ${advice.interval}`);
    for (let n = 1; n < 4; n++) {
        await t.rest.publish(channel, String(n));
    }
    await one.expect(1, 2, 3);
    await two.expect(1, 2, 3);
    return `the second tab polls every ${advice.interval} ms`;
}
