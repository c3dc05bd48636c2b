// 60 KB and 256 KB pass both ways, whole; what scripts send has to fit into a
// URL.
import assert from "node:assert/strict";

export async function run(t) {
    const [client, other] = [await t.client(), await t.client()];
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    for (const size of [60_000, 256 * 1024]) {
        const text = "0123456789abcdef".repeat(size / 16);
        if (t.transport !== "callback-polling") {
            await other.publish(channel, {text});
            assert.equal((await inbox.next()).data.text, text);
        }
        await t.rest.publish(channel, JSON.stringify({list: text.match(/.{1,100}/g)}));
        assert.equal((await inbox.next()).data.list.join(""), text);
    }
}
