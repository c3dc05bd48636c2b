// A message to a service channel is accepted and reaches no other client.
import assert from "node:assert/strict";

export const only = "cometd";

export async function run(t) {
    const [client, other] = [await t.client(), await t.client()];
    const all = await other.subscribe("/**");
    const service = await other.subscribe("/service/echo");
    const wide = await other.subscribe("/service/**");
    await client.publish("/service/echo", 1);
    await client.publish(t.channel("a"), 2);
    for (let message; message?.channel !== t.channel("a");) {
        message = await all.next();
        assert.doesNotMatch(message.channel, /^\/service\//);
    }
    await service.nothing();
    await wide.nothing(0);
}
