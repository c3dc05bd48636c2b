// The timestamp extension does no harm.
import {TimeStampExtension} from "cometd/TimeStampExtension.js";

export const only = "cometd";

export async function run(t) {
    const client = await t.newClient();
    client.native.registerExtension("timestamp", new TimeStampExtension());
    await client.open();
    const inbox = await client.subscribe(t.channel("a"));
    await client.publish(t.channel("a"), 1);
    await inbox.expect(1);
}
