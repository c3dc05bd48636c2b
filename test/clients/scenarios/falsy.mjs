// Every JSON value is a payload, null and its kin included.
export async function run(t) {
    const [client, other] = [await t.client(), await t.client()];
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    const nested = {a: [{b: [[[{c: {}}]]]}, [], {}, null], "": {"": 0}};
    for (const data of [null, 0, "", false, true, [], {}, -0.5, 1e21, nested, [null], 9007199254740991]) {
        await other.publish(channel, data);
        await inbox.expect(data);
        await t.rest.publish(channel, JSON.stringify(data));
        await inbox.expect(data);
    }
}
