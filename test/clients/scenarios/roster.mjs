// Who is in a room, as a page shows it that does what it is told on the room's
// channel under /presence.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";

export async function run(t) {
    const room = t.channel("room"), here = new Map();
    const page = await t.client();
    const inbox = await page.subscribe("/presence" + room);
    const until = async n => {
        while (here.size !== n) {
            const {data} = await inbox.next();
            if (data.members) here.clear();
            for (const m of data.left ?? []) assert.ok(here.delete(m.session));
            for (const m of data.members ?? data.joined) here.set(m.session, m);
            assert.equal(here.size, data.count);
        }
    };
    assert.deepEqual((await inbox.next()).data, {count: 0, members: []});
    const ann = await t.client();
    await ann.subscribe(room);
    await until(1);
    const [first] = here.keys();
    const bob = await t.client();
    const his = await bob.subscribe(room);
    await until(2);
    const [, second] = here.keys();
    assert.ok(Math.abs(new Date(here.get(second).since) - Date.now()) < 60_000);
    await ann.close();
    await until(1);
    assert.ok(!here.has(first) && here.has(second));
    await bob.unsubscribe(his);
    await until(0);
    await pause(400);
    for (const {data} of inbox.drain()) { // a page whose session goes on at another edge is told all of it again
        assert.deepEqual(data, {count: 0, members: []});
    }
    await assert.rejects(ann.publish?.call(bob, "/presence" + room, {count: 9}), /^Error: 403:/);
    await assert.rejects(page.subscribe("/presence/**"), /^Error: 403:/);
}
