// A backend ends a session whose client waits: the client stops, and does not come
// back until it is told to.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";

export const only = "cometd";

export async function run(t) {
    const service = "/service" + t.root + "/leave";
    const backend = await t.rest.subscribe("/service/**", async ({channel, session}) => {
        if (channel === service) {
            await t.rest.disconnect(session);
        }
    });
    t.after(() => backend.stop());
    const client = await t.client();
    await client.connected();
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);

    const gone = client.heard("/meta/disconnect", message => message.successful);
    client.native.publish(service, {});
    await gone;
    client.wire.tap();
    await (await t.client()).publish(channel, 1);
    await inbox.nothing();
    await pause(1000);
    assert.equal(client.native.isDisconnected(), true, client.native.getStatus());
    assert.ok(!client.wire.text.includes("/meta/"), "it goes on to talk: " + client.wire.text);

    await client.open();
    const again = await client.subscribe(channel);
    await client.publish(channel, 2);
    await again.expect(2);
}
