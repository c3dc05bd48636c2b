// A disconnect is answered at once and ends the session.
import assert from "node:assert/strict";

export async function run(t) {
    const client = await t.client();
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    await client.publish(channel, 1);
    await inbox.expect(1);

    const clientId = client.native.getClientId?.();
    const start = performance.now();
    const reply = await client.close();
    const took = performance.now() - start;
    assert.ok(took < 2000, `the disconnect took ${took} ms`);
    if (clientId) {
        assert.equal(reply.successful, true, JSON.stringify(reply));
        const connect = {channel: "/meta/connect", connectionType: "long-polling", id: "1", clientId, advice: {timeout: 0}};
        const response = await fetch(client.wire.url, {
            method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify([connect]),
        });
        const [answer] = await response.json();
        assert.equal(answer.successful, false, JSON.stringify(answer));
        assert.equal(answer.advice.reconnect, "handshake");
    }
    const other = await t.client();
    await other.publish(channel, 2);
    await inbox.nothing();
}
