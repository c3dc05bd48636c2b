// The ack extension is negotiated, and batch numbers grow with each connect.
import assert from "node:assert/strict";
import {AckExtension} from "cometd/AckExtension.js";

export const only = "cometd";

export async function run(t) {
    const client = await t.newClient();
    client.native.registerExtension("ack", new AckExtension());
    const reply = await client.open();
    assert.ok(reply.ext?.ack === true || reply.ext?.ack?.enabled === true, "not negotiated: " + JSON.stringify(reply));

    const batches = [];
    client.native.addListener("/meta/connect", message => batches.push(message.ext?.ack));
    const inbox = await client.subscribe(t.channel("a"));
    for (let n = 0; n < 10; n++) {
        await client.publish(t.channel("a"), n);
        await inbox.expect(n);
    }
    await inbox.nothing(200);
    assert.ok(batches.length > 1, "no connects");
    batches.reduce((before, batch) => {
        assert.ok(batch > before, `batches ${batches}`);
        return batch;
    }, 0);
    return `batches ${batches.join(" ")}`;
}
