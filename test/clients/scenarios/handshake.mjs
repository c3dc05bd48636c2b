// A handshake gives a session, a version and complete advice.
import assert from "node:assert/strict";

export async function run(t) {
    const client = await t.newClient();
    const reply = await client.open();
    if (!reply) {
        return "connected"; // Faye's client keeps the reply to itself
    }
    assert.match(reply.clientId, /^[A-Za-z0-9]+$/);
    assert.ok(reply.clientId.length >= 20, "guessable clientId");
    assert.equal(reply.version, "1.0");
    assert.ok(reply.supportedConnectionTypes.includes("long-polling"));
    assert.equal(reply.advice.reconnect, "retry");
    assert.equal(typeof reply.advice.interval, "number");
    assert.equal(typeof reply.advice.timeout, "number");
    return `hold ${reply.advice.timeout} ms`;
}
