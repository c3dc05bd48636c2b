// A backend publishes, clients hear it; a client publishes, history has it.
import assert from "node:assert/strict";

export async function run(t) {
    const client = await t.client();
    const channel = t.channel("news");
    const inbox = await client.subscribe(channel);
    const waits = [];
    for (let n = 0; n < 10; n++) {
        const start = performance.now();
        const {position} = await t.rest.publish(channel, JSON.stringify({n}));
        assert.match(String(position), /^[0-9]+$/);
        await inbox.expect({n});
        waits.push(performance.now() - start);
    }
    await client.publish(channel, {n: 10});
    await inbox.expect({n: 10});
    const {messages} = JSON.parse(await t.rest.history(channel));
    assert.deepEqual(messages.map(m => m.data.n), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    waits.sort((a, b) => a - b);
    return `publish to delivery ${waits[5].toFixed(1)} ms in the middle, ${waits[9].toFixed(1)} ms at most`;
}
