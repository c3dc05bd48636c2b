// Many clients hear the same, each in order.
export async function run(t) {
    const channel = t.channel("a");
    const clients = await Promise.all(Array.from({length: 8}, () => t.client()));
    const inboxes = await Promise.all(clients.map(client => client.subscribe(channel)));
    const numbers = Array.from({length: 25}, (_, n) => n);
    for (const n of numbers) {
        await t.rest.publish(channel, String(n));
    }
    await Promise.all(inboxes.map(inbox => inbox.expect(...numbers)));
    await Promise.all(inboxes.map(inbox => inbox.nothing()));
}
