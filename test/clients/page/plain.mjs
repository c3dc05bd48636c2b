// What browsers have to follow a plain channel. Each way is given a URL and
// calls take with every object that comes; it resolves when the connection has
// ended, and rejects when it failed.
const ways = {
    // EventSource connects again by itself.
    eventsource: (url, take) => new Promise(() => {
        const source = new EventSource(url({transport: "sse"}));
        source.onmessage = event => take(JSON.parse(event.data));
        source.addEventListener("comet", event => take(JSON.parse(event.data)));
    }),

    async fetch(url, take) {
        const response = await fetch(url({transport: "stream"}));
        for await (const line of pieces(response, "\n")) {
            take(JSON.parse(line));
        }
    },

    async multipart(url, take) {
        const response = await fetch(url({transport: "multipart"}));
        for await (const part of pieces(response, "\r\n--comet")) {
            const at = part.indexOf("\r\n\r\n");
            if (at >= 0) {
                take(JSON.parse(part.slice(at)));
            }
        }
    },

    // As it was done before fetch: the text so far is read at readyState 3.
    xhr: (url, take) => new Promise((ended, failed) => {
        const request = new XMLHttpRequest();
        let from = 0;
        request.onreadystatechange = () => {
            if (request.readyState < 3) {
                return;
            }
            for (let to; (to = request.responseText.indexOf("\n", from)) >= 0; from = to + 1) {
                take(JSON.parse(request.responseText.slice(from, to)), request.readyState);
            }
        };
        request.onload = ended;
        request.onerror = failed;
        request.open("GET", url({transport: "stream", padding: "1024"}));
        request.send();
    }),

    // The frame calls a function of this page, so it must be of its origin.
    frame: (url, take) => new Promise(ended => {
        const frame = document.createElement("iframe");
        window.news = object => {
            take(object);
            if (object.type === "end") {
                frame.remove();
                ended();
            }
        };
        frame.hidden = true;
        frame.src = url({transport: "frame", callback: "news"});
        document.body.append(frame);
    }),

    async script(url, take) {
        for (let wait = "0"; ; wait = "2") {
            const batch = await load(url({transport: "jsonp", jsonp: "scripts.take", wait}));
            batch.messages.forEach(message => take(message));
            take({type: "batch", cursor: batch.cursor});
        }
    },

    websocket: (url, take) => new Promise((ended, failed) => {
        const socket = new WebSocket(url({transport: "ws"}).replace(/^http/, "ws"));
        socket.onmessage = event => take(JSON.parse(event.data));
        socket.onclose = ended;
        socket.onerror = failed;
    }),
};

// The pieces of a body, as they come.
async function* pieces(response, separator) {
    if (!response.ok) {
        throw new Error(await response.text());
    }
    let rest = "";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let next; !(next = await reader.read()).done;) {
        const found = (rest + next.value).split(separator);
        rest = found.pop();
        yield* found;
    }
}

// Loads a script that calls scripts.take.
function load(src) {
    return new Promise((done, failed) => {
        const script = document.createElement("script");
        window.scripts = {take: done};
        script.onload = () => script.remove();
        script.onerror = failed;
        script.src = src;
        document.head.append(script);
    });
}

// Follows a channel for ever, going on after what was seen; returns what was
// seen, which grows.
export function follow(way, base, channel) {
    const seen = [];
    let since;
    const take = (object, state) => {
        seen.push(state === undefined ? object : {...object, state});
        since = object.cursor ?? object.position ?? since;
    };
    const url = query => `${base}/channels${channel}?` +
        new URLSearchParams(since === undefined ? query : {...query, since});
    (async () => {
        for (;;) {
            await ways[way](url, take).catch(() => {});
            await new Promise(go => setTimeout(go, 100));
        }
    })();
    return window.seen = seen;
}
