// * is one segment, ** one or more; a message comes once however many of a
// client's subscriptions match.
export async function run(t) {
    const client = await t.client();
    const one = await client.subscribe(t.channel("*"));
    const deep = await client.subscribe(t.channel("**"));
    const exact = await client.subscribe(t.channel("a"));
    const below = await client.subscribe(t.channel("a/**"));

    const publisher = await t.client();
    await publisher.publish(t.channel("a"), 1);
    await publisher.publish(t.channel("a/b"), 2);
    await publisher.publish(t.channel("a/b/c"), 3);
    await publisher.publish(t.channel("b"), 4);
    await publisher.publish(t.root, 5);

    await deep.expect(1, 2, 3, 4);
    await one.expect(1, 4);
    await exact.expect(1);
    await below.expect(2, 3);
    for (const inbox of [one, deep, exact, below]) {
        await inbox.nothing(150);
    }
}
