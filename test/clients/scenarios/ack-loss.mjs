// With the ack extension no message is lost and none comes twice although
// answers with messages are lost on their way, again and again.
import assert from "node:assert/strict";
import {AckExtension} from "cometd/AckExtension.js";

export const only = "cometd";
export const timeout = 60_000;

export async function run(t) {
    const client = await t.newClient();
    client.native.registerExtension("ack", new AckExtension());
    await client.open();
    const inbox = await client.subscribe(t.channel("a"));
    const publisher = await t.client();

    let sent = 0;
    let lostMessages = 0;
    for (let round = 0; round < 8; round++) {
        const lost = client.wire.loseNextPoll();
        for (let n = 0; n < 3; n++) {
            await publisher.publish(t.channel("a"), sent++);
        }
        lostMessages += (await lost).split('"data"').length - 1;
        await publisher.publish(t.channel("a"), sent++);
        if (round % 2) {
            await inbox.expect(sent - 8, sent - 7, sent - 6, sent - 5, sent - 4, sent - 3, sent - 2, sent - 1);
        }
    }
    await inbox.nothing();
    assert.ok(lostMessages > 0, "no answer with messages was lost: nothing was shown");
    return `${sent} messages, ${lostMessages} of them in lost answers, came once each`;
}
