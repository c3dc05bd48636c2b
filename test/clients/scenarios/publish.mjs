// Two clients talk to each other, both ways.
export async function run(t) {
    const [ann, bob] = [await t.client(), await t.client()];
    const channel = t.channel("room");
    const [annHears, bobHears] = [await ann.subscribe(channel), await bob.subscribe(channel)];
    for (let n = 0; n < 5; n++) {
        await ann.publish(channel, {from: "ann", n});
        await bobHears.expect({from: "ann", n});
        await bob.publish(channel, {from: "bob", n});
        await bobHears.expect({from: "bob", n});
        await annHears.expect({from: "ann", n}, {from: "bob", n});
    }
    await annHears.nothing(150);
    await bobHears.nothing(150);
}
