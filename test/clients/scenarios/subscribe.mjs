// A subscriber gets what is published to its channel, once and in order, its
// own messages included; a second subscription changes nothing.
export async function run(t) {
    const client = await t.client();
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    const again = await client.subscribe(channel);
    for (let n = 0; n < 20; n++) {
        await client.publish(channel, {n});
    }
    const numbers = Array.from({length: 20}, (_, n) => ({n}));
    await inbox.expect(...numbers);
    await again.expect(...numbers);
    await client.publish(t.channel("b"), "elsewhere");
    await inbox.nothing();
}
