// A client whose network breaks for less than the server remembers it goes on
// with its session and gets what was published meanwhile. What came over a socket
// just before may come again.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";

export const only = "cometd";

export async function run(t) {
    const client = await t.newClient();
    let handshakes = 0;
    client.native.addListener("/meta/handshake", () => handshakes++);
    await client.open();
    const inbox = await client.subscribe(t.channel("a"));
    const other = await t.client();
    await other.publish(t.channel("a"), 1);
    await inbox.expect(1);

    await pause(100); // the next connect is held by now
    client.wire.cut();
    await pause(300);
    await other.publish(t.channel("a"), 2);
    await other.publish(t.channel("a"), 3);
    client.wire.restore();
    let next = (await inbox.next()).data;
    if (next === 1 && t.transport === "websocket") {
        next = (await inbox.next()).data;
    }
    assert.equal(next, 2);
    await inbox.expect(3);
    await inbox.nothing(150);
    assert.equal(handshakes, 1);
}
