// What is not allowed is refused in-band, with CometD's errors, and the client
// lives on.
import assert from "node:assert/strict";

export const only = "cometd";

export async function run(t) {
    const client = await t.client();
    const refused = async (what, error) => assert.rejects(what, e => {
        assert.match(e.message, error);
        return true;
    });
    await refused(client.subscribe("/meta/connect"), /^403:.*:subscribe_denied$/);
    await refused(client.subscribe("/meta/**"), /^403:.*:subscribe_denied$/);
    await refused(client.subscribe(t.channel("*/a")), /^403::subscription_invalid$/);
    await refused(client.subscribe(t.channel("a//b")), /^403::subscription_invalid$/);
    await refused(client.publish(t.channel("a//b"), 1), /^405::channel_invalid$/);
    await refused(client.publish(t.channel("**"), 1), /^405::channel_invalid$/);

    const inbox = await client.subscribe(t.channel("with.dots and {braces}+"));
    await client.publish(t.channel("with.dots and {braces}+"), 1);
    await inbox.expect(1);
}
