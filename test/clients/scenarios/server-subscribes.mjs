// A backend subscribes a client that only listens: it gets what is published once
// that is done, until the backend unsubscribes it, or it does so itself.
export const only = "cometd";

export async function run(t) {
    const target = t.root.slice(1) + "/order";
    const orders = {
        subscribe: session => t.rest.subscribeSession(session, [t.channel("a"), t.channel("b") + "/*", t.channel("c")]),
        unsubscribe: session => t.rest.unsubscribeSession(session, [t.channel("a")]),
    };
    const backend = await t.rest.subscribe("/service/**", async ({channel, session, id, data}) => {
        if (channel === `/service/${target}`) {
            await orders[data](session);
            await t.rest.deliver({session, channel, id, data});
        }
    });
    t.after(() => backend.stop());
    const [client, other] = [await t.client(), await t.client()];
    const [a, b] = [client.listen(t.channel("a")), client.listen(t.channel("b") + "/*")];
    await other.publish(t.channel("a"), "early");

    await client.call(target, "subscribe");
    await other.publish(t.channel("a"), 1);
    await other.publish(t.channel("b") + "/x", 2);
    await a.expect(1);
    await b.expect(2);

    await client.call(target, "unsubscribe");
    await other.publish(t.channel("a"), 3);
    await other.publish(t.channel("b") + "/x", 4);
    await b.expect(4);
    await a.nothing();

    // A subscription has no owner: the client ends what both have made.
    const own = await client.subscribe(t.channel("c"));
    await client.call(target, "subscribe");
    await other.publish(t.channel("c"), 5);
    await own.expect(5);
    await client.unsubscribe(own);
    const c = client.listen(t.channel("c")); // CometD's client subscribes only where nobody listens
    await other.publish(t.channel("c"), 6);
    await c.nothing();
}
