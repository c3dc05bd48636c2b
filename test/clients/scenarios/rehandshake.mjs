// A client that was away for longer than the server remembers it shakes hands
// again, subscribes again, and hears again.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";

export const timeout = 90_000;

export async function run(t) {
    const client = await t.newClient();
    const channel = t.channel("a");
    let handshakes = 0;
    let again; // what was subscribed after the last handshake
    client.native.addListener?.("/meta/handshake", reply => {
        handshakes += reply.successful ? 1 : 0;
        again = reply.successful ? client.subscribe(channel) : again;
    });
    const reply = await client.open();
    let inbox = again ? await again : await client.subscribe(channel);
    await client.publish(channel, 1);
    await inbox.expect(1);

    const away = (reply?.advice.maxInterval ?? t.maxInterval) + 2500;
    client.wire.cut();
    await pause(away);
    client.wire.restore();
    client.wire.tap();

    // A publish answers only when the client has a session again.
    const start = performance.now();
    const other = await t.client();
    for (let n = 2; ; n++) {
        if (again && handshakes > 1) {
            inbox = await again;
        }
        await other.publish(channel, n);
        const message = await inbox.next(1000).catch(() => undefined);
        if (message) {
            assert.ok(message.data > 1, `old message ${message.data}`);
            break;
        }
    }
    assert.match(client.wire.text, /40[12]:[^:]*:/, "the server still knew the client: " + client.wire.text);
    assert.ok(!again || handshakes === 2, `${handshakes} handshakes`);
    return `away for ${away} ms, back after ${Math.round(performance.now() - start)} ms`;
}
