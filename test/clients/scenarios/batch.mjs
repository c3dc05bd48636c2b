// Messages of one request are handled in order and answered each.
export async function run(t) {
    const client = await t.client();
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    await client.batch(() => [1, 2, 3].map(n => client.publish(channel, n)));
    await inbox.expect(1, 2, 3);

    const [other] = await client.batch(() => [
        client.subscribe(t.channel("b")),
        client.publish(channel, 4),
        client.publish(t.channel("b"), 5),
    ]);
    await inbox.expect(4);
    await other.expect(5);
    await inbox.nothing(150);
}
