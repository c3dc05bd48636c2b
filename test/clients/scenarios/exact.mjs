// A payload travels byte for byte: 64-bit integers, key order, digits.
import assert from "node:assert/strict";

export async function run(t) {
    const client = await t.client();
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    client.wire.tap();
    for (const text of [
        '{"z":9007199254740993,"a":-9223372036854775808,"10":18446744073709551615,"2":1.0,"e":1E+2}',
        '"\\u0041\\/\\ud83d\\ude00"',
        "12345678901234567890.10",
    ]) {
        await t.rest.publish(channel, text);
        await inbox.next();
        assert.ok(client.wire.text.includes(`"data":${text}`), `not on the wire: ${text}`);
        assert.ok((await t.rest.history(channel)).includes(`"data":${text}`), `not in history: ${text}`);
    }
}
