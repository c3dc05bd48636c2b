// Clients with one cookie, tabs of one browser: a server holds so many
// connects of them and tells the next tab to come back; all hear everything.
import assert from "node:assert/strict";

export const only = "cometd";
export const transports = ["long-polling", "callback-polling"]; // browsers count no WebSockets

export async function run(t) {
    const wire = await t.wire();
    const channel = t.channel("a");
    const inboxes = [];
    let advice;
    for (let n = 0; n < 8 && !advice; n++) {
        const tab = await t.newClient(wire);
        tab.native.addListener("/meta/connect", reply => {
            if (reply.advice?.["multiple-clients"]) {
                advice ??= reply.advice;
            }
        });
        await tab.open();
        const inbox = await tab.subscribe(channel);
        inboxes.push(inbox);
        await inbox.nothing(150); // its second connect is on its way or held
    }
    assert.ok(advice, `${inboxes.length} tabs, and none was told`);
    assert.equal(advice.reconnect, "retry");
    assert.ok(advice.interval > 0, `interval ${advice.interval}`);
    for (const n of [1, 2, 3]) {
        await t.rest.publish(channel, String(n));
    }
    await Promise.all(inboxes.map(inbox => inbox.expect(1, 2, 3)));
    return `the tab number ${inboxes.length} polls every ${advice.interval} ms`;
}
