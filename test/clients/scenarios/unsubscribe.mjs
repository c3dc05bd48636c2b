// After an unsubscribe nothing comes, and the other subscriptions stand.
import {setTimeout as pause} from "node:timers/promises";

export async function run(t) {
    const client = await t.client();
    const [gone, kept] = [await client.subscribe(t.channel("a")), await client.subscribe(t.channel("b"))];
    await client.publish(t.channel("a"), 1);
    await gone.expect(1);
    await client.unsubscribe(gone);
    await pause(200); // Faye's client does not say when it is done

    const other = await t.client();
    await other.publish(t.channel("a"), 2);
    await other.publish(t.channel("b"), 3);
    await kept.expect(3);
    await gone.nothing();

    const back = await client.subscribe(t.channel("a"));
    await other.publish(t.channel("a"), 4);
    await back.expect(4);
    await gone.nothing(150);
}
