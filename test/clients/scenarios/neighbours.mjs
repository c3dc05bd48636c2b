// A message that is refused does not spoil the others of its request.
import assert from "node:assert/strict";

export async function run(t) {
    const client = await t.client();
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    let refused;
    await client.batch(() => [
        client.publish(channel, 1),
        client.publish(t.channel("a//b"), 2).catch(error => refused = error),
        client.publish(channel, 3),
    ]);
    assert.match(String(refused?.message), /^405:/);
    await inbox.expect(1, 3);
    await inbox.nothing(150);
}
