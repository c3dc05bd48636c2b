// A backend that listens to /service/** answers a client's remote calls: to
// that client alone, by the call's id.
import assert from "node:assert/strict";

export const only = "cometd";

export async function run(t) {
    const target = t.root.slice(1) + "/sum";
    const backend = await t.rest.subscribe("/service/**", async ({channel, session, id, data}) => {
        if (channel === `/service/${target}`) {
            await (data.fail
                ? t.rest.deliver({session, channel, id, data: {why: "as asked"}, failed: true})
                : t.rest.deliver({session, channel, id, data: {sum: data.a + data.b}}));
        }
    });
    t.after(() => backend.stop());

    const [ann, bob] = [await t.client(), await t.client()];
    const overheard = await bob.subscribe("/**");
    const heard = await bob.subscribe(`/service/${target}`);
    for (let n = 0; n < 5; n++) {
        const reply = await ann.call(target, {a: n, b: 2});
        assert.deepEqual(reply.data, {sum: n + 2});
    }
    const answers = await Promise.all([1, 2, 3].map(n => ann.call(target, {a: n, b: n})));
    assert.deepEqual(answers.map(r => r.data.sum), [2, 4, 6]);
    await assert.rejects(ann.call(target, {fail: true}), ({reply}) => {
        assert.deepEqual(reply.data, {why: "as asked"});
        return true;
    });
    await heard.nothing();
    assert.ok(!overheard.drain().some(message => message.channel.startsWith("/service/")), "/** heard a service channel");
}
