// The REST door of a broker. Payloads are JSON text, so that what is sent and
// what comes back can be compared byte for byte.
import assert from "node:assert/strict";

export class Rest {
    constructor(base) {
        this.base = base.replace(/\/$/, "");
    }

    async #fetch(path, init) {
        const response = await fetch(this.base + path, {signal: AbortSignal.timeout(10_000), ...init});
        const text = await response.text();
        assert.equal(response.status, 200, `${path}: ${response.status} ${text}`);
        return text;
    }

    #post(path, body) {
        return this.#fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body});
    }

    async publish(channel, dataText) {
        return JSON.parse(await this.#post("/v1/publish", `{"channel":${JSON.stringify(channel)},"data":${dataText}}`));
    }

    deliver(answer) {
        return this.#post("/v1/deliver", JSON.stringify(answer));
    }

    disconnect(session) {
        return this.#post("/v1/disconnect", JSON.stringify({session}));
    }

    subscribeSession(session, channels) {
        return this.#post("/v1/sessions/subscribe", JSON.stringify({session, channels}));
    }

    unsubscribeSession(session, channels) {
        return this.#post("/v1/sessions/unsubscribe", JSON.stringify({session, channels}));
    }

    // Returns the reply's text.
    history(channel) {
        return this.#fetch("/v1/history?" + new URLSearchParams({channel}));
    }

    // Calls fn with each message of a channel or pattern until stop() of what
    // it resolves with; resolves when the subscription stands.
    async subscribe(channels, fn) {
        const stop = new AbortController();
        const response = await fetch(this.base + "/v1/subscribe?" + new URLSearchParams({channels}), {signal: stop.signal});
        assert.equal(response.status, 200);
        const events = lines(response.body);
        const first = await events.next();
        assert.ok(first.value?.result?.open, `the first event is ${JSON.stringify(first.value)}`);
        const done = (async () => {
            for await (const event of events) {
                if (event.result?.message) {
                    await fn(event.result.message);
                }
            }
        })().catch(error => {
            if (!stop.signal.aborted) {
                throw error;
            }
        });
        return {
            stop: async () => {
                stop.abort();
                await done;
            },
        };
    }
}

async function* lines(body) {
    let rest = "";
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
        const parts = (rest + chunk).split("\n");
        rest = parts.pop();
        for (const line of parts.filter(Boolean)) {
            yield JSON.parse(line);
        }
    }
}
